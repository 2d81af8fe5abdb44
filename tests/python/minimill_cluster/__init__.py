"""Whether images are ready for Kubernetes: charts are checked without a cluster, and tried in one."""
