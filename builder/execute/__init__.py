"""Run planned steps: `local` schedules them on this machine, `jobs` turns one step into one job of a worker."""
