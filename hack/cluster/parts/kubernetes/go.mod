module tessera.dev/hack/cluster/kubernetes

go 1.24
