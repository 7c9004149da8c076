"""The ops of the attention family: forward in two ways and with what a score may go through, decode, and backward.

They share honest baselines and corruptions; whoever wants the ops asks `triptych.harness.collection`.
"""
