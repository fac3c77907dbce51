"""The post's figures and claims, made again from sweeps."""
