"""Where trainings run: jobs, the workers that take them, and what places the workers."""
