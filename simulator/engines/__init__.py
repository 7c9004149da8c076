"""One module per engine; importing them fills `triptych.simulator.machine.INSTRUCTIONS`."""
