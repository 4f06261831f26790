module github.com/multiplexer-cni/multiplexer/internal/runtimetest/oldlibcni

go 1.26.0

require github.com/containernetworking/cni v1.1.2
