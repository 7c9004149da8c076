"""What tests/public_kernels.py knows of each repository of AWS's: which kernels to run, with what, against what."""
