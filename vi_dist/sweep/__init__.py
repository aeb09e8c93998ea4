"""What a sweep is: spec, configurations, plan; pure Python."""
