"""From a repository name in a request to the upstream and the folder on disk."""
