//! OCI distribution: an embedded registry over OCI image layouts, its HTTP interface, and a client.
