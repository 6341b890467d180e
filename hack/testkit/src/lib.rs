//! Stand-ins for the kubelet and the API server.
