"""Many adapters at once: as pure functions, over devices, and group by group."""
