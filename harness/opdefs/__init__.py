"""The rows of the op table, one file per op: inputs, honest baselines, cases, flops and bytes."""
