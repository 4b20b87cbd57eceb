"""Where bytes come from: files, remote objects, a cache on disk, tar archives."""
