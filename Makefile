# Every verb of the repository. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The suites share the machine's network and are timed: one after the other.
.NOTPARALLEL:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# -count=1: a run is a run, never a cached result.
# To run one package after the other: make test TESTFLAGS='-race -count=1 -timeout 30m -p 1'
TESTFLAGS ?= -race -count=1 -timeout 30m

# Debian packages with the programs that the tests and the demo call.
TEST_PACKAGES := nftables iproute2 iputils-ping
CHECK_PACKAGES := shellcheck

# The size that the stripped plugin may have, in bytes.
MAX_SIZE := 6000000

export MULTIPLEXER_BIN := $(CURDIR)/bin/multiplexer
export MULTIPLEXERD_BIN := $(CURDIR)/bin/multiplexerd
# An assignment of its own: the shell stops here when the plugins do not build.
USE_PLUGINS = MULTIPLEXER_CNI_PLUGINS=$$(tools/cniplugins.sh); export MULTIPLEXER_CNI_PLUGINS
USE_KUBE = MULTIPLEXER_KUBE=$$(tools/kube.sh); export MULTIPLEXER_KUBE
NODE_PROGRAMS := etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy containerd containerd-shim-runc-v2 ctr runc
USE_NODE = MULTIPLEXER_KUBE=$$(tools/kube.sh $(NODE_PROGRAMS)); export MULTIPLEXER_KUBE
USE_HELM = MULTIPLEXER_HELM=$$(tools/helm.sh); export MULTIPLEXER_HELM
USE_MULTUS = MULTIPLEXER_MULTUS=$$(tools/multus.sh); export MULTIPLEXER_MULTUS
USE_GUEST = MULTIPLEXER_GUEST_DIR=$$(tools/guest.sh); export MULTIPLEXER_GUEST_DIR

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/multiplexer and bin/multiplexerd
	@echo "building bin/multiplexer and bin/multiplexerd, version $(VERSION)"
# -buildvcs=false: the version is set here, and Go refuses a checkout of another owner.
	@for name in multiplexer multiplexerd; do \
		CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" -o bin/$$name ./cmd/$$name; \
	done

.PHONY: plugins
plugins:
	@tools/cniplugins.sh >/dev/null

.PHONY: kube
kube:
	@tools/kube.sh >/dev/null

.PHONY: guest
guest:
	@tools/guest.sh >/dev/null

.PHONY: test-packages
test-packages:
	@tools/apt.sh $(TEST_PACKAGES)

.PHONY: demo
demo: build plugins test-packages ## show the plugin at work on this machine
	@$(USE_PLUGINS); go run ./internal/demo

.PHONY: demo-sriov
demo-sriov: build plugins guest test-packages ## the same with real VFs, in a virtual machine
	@$(USE_PLUGINS); $(USE_GUEST); go run ./internal/demosriov

.PHONY: bench
bench: build plugins kube guest test-packages ## measure the plugin, the agent and SR-IOV on this machine
	@$(USE_PLUGINS); $(USE_KUBE); go run ./internal/bench
	@$(USE_PLUGINS); $(USE_GUEST); go run ./internal/sriovbench

.PHONY: check
check: check-format check-vet check-lint check-shell check-tidy ## format, vet, lint, shell scripts, go.mod files

.PHONY: check-format
check-format:
	@tools/suite.sh "gofmt" tools/check.sh format

.PHONY: check-vet
check-vet:
	@tools/suite.sh "go vet" tools/check.sh vet

.PHONY: check-lint
check-lint:
	@tools/suite.sh "golangci-lint" tools/check.sh lint

.PHONY: check-shell
check-shell:
	@tools/apt.sh $(CHECK_PACKAGES)
	@tools/suite.sh "shellcheck" tools/check.sh shell

.PHONY: check-tidy
check-tidy:
	@tools/suite.sh "go mod tidy" tools/check.sh tidy

.PHONY: test
test: test-main test-node e2e test-kills test-sriov e2e-sriov test-nested fuzz-short test-size ## every test, short fuzzing, the size of the plugin

.PHONY: race-compiler
race-compiler:
	@cc=$$(go env CC); command -v "$${cc%% *}" >/dev/null || { \
		echo "make: -race needs cgo and a C compiler, and $$cc is not installed: apt-get install gcc libc6-dev" >&2; \
		exit 1; \
	}

.PHONY: test-main
test-main: build plugins kube test-packages race-compiler
	@$(USE_PLUGINS); $(USE_NODE); $(USE_HELM); $(USE_MULTUS); tools/suite.sh "unit and namespace tests" \
		env CGO_ENABLED=1 go test $(TESTFLAGS) $$(go list ./... | grep -Ev '/internal/(sriovguest|nodetest|e2e|killtest|sriovkube)$$')

# Real kubelets, containerd and runc, on nodes in namespaces of this machine.
.PHONY: test-node
test-node: build plugins test-packages race-compiler
	@$(USE_PLUGINS); $(USE_NODE); tools/suite.sh "real nodes" env CGO_ENABLED=1 go test $(TESTFLAGS) -v ./internal/nodetest

# -parallel: the scenarios wait for kubelets more than they compute.
.PHONY: e2e
e2e: build plugins test-packages race-compiler ## deploy/ on two nodes with kubelet, containerd, flannel and kube-proxy
	@$(USE_PLUGINS); $(USE_NODE); tools/suite.sh "two real nodes, installed by the manifests" \
		env CGO_ENABLED=1 go test $(TESTFLAGS) -parallel 16 -v ./internal/e2e

# The table of docs/kill-matrix.md, with outages of 10 s.
.PHONY: test-kills
test-kills: build plugins test-packages race-compiler
	@$(USE_PLUGINS); $(USE_NODE); $(USE_HELM); tools/suite.sh "kill matrix" env CGO_ENABLED=1 go test $(TESTFLAGS) -v ./internal/killtest

.PHONY: kill-matrix
kill-matrix: build plugins test-packages race-compiler ## end each program of a node at each moment, for a minute and with ordinary limits
	@$(USE_PLUGINS); $(USE_NODE); $(USE_HELM); tools/suite.sh "kill matrix, with outages of a minute" \
		env CGO_ENABLED=1 MULTIPLEXER_KILL_OUTAGE=1m go test $(TESTFLAGS) -timeout 60m -v ./internal/killtest

# One after the other with the rest: the guest is slow where others compute.
.PHONY: test-sriov
test-sriov: build plugins guest test-packages
	@$(USE_PLUGINS); $(USE_GUEST); tools/suite.sh "tests on real VFs, in a guest" \
		env CGO_ENABLED=0 go test -count=1 -timeout 45m -v ./internal/sriovguest
	@$(USE_PLUGINS); $(USE_GUEST); tools/suite.sh "routing suite in the guest" tools/guesttest.sh ./internal/routetest

.PHONY: e2e-sriov
e2e-sriov: build plugins guest test-packages ## pods with real VFs, on two nodes with kubelet and containerd
	@$(USE_PLUGINS); $(USE_NODE); $(USE_GUEST); tools/suite.sh "pods with real VFs, on two nodes" \
		env CGO_ENABLED=0 go test -count=1 -timeout 20m -v ./internal/sriovkube

.PHONY: test-nested
test-nested: build plugins test-packages race-compiler
	@$(USE_PLUGINS); nested=$$(tools/modules.sh nested); \
	[ -n "$$nested" ] || echo "=== no nested test module in this checkout"; \
	for dir in $$nested; do \
		tools/suite.sh "tests of $$dir" env -C "$$dir" CGO_ENABLED=1 go test $(TESTFLAGS) ./...; \
	done

.PHONY: fuzz-short
fuzz-short: build plugins test-packages
	@$(USE_PLUGINS); tools/suite.sh "short fuzzing" tools/fuzz.sh $(or $(FUZZTIME),20s)

.PHONY: test-size
test-size: build
	@tools/suite.sh "size of bin/multiplexer" tools/check.sh size bin/multiplexer $(MAX_SIZE)

.PHONY: fuzz
fuzz: build plugins test-packages ## each fuzz target for FUZZTIME, 5m if not given
	@$(USE_PLUGINS); tools/suite.sh "fuzzing" tools/fuzz.sh $(or $(FUZZTIME),5m)

.PHONY: manifests
manifests: ## generate deploy/ from the chart
	@tools/manifests.sh

.PHONY: image
image: ## write bin/multiplexer-image.tar, for amd64 and arm64
	@go run ./internal/image -version "$(VERSION)" -revision "$$(git rev-parse HEAD)" -created "$$(git log -1 --format=%ct)"

.PHONY: vuln
vuln: build ## known vulnerabilities in the code and in the two binaries
	@tool=$$(tools/gotool.sh govulncheck); \
	tools/suite.sh "govulncheck of the code" "$$tool" ./...; \
	for name in multiplexer multiplexerd; do \
		tools/suite.sh "govulncheck of bin/$$name" "$$tool" -mode=binary bin/$$name; \
	done

.PHONY: clean
clean: ## remove bin
	rm -rf bin
