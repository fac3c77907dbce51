"""Living with sweeps: what runs, what lies on the disk, what may go, and any checkpoint as a folder of its own."""
