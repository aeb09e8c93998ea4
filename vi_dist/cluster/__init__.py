"""Where packs run: workers, executors, the driver."""
