"""What the processes share on disk: names, layout, storage, repositories, index, log lines."""
