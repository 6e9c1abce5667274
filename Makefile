# Umbra. `make test` needs Debian 12, root, Go, git and make, `make demo` no root;
# what else they need they bring themselves.

GUARD  := internal/host/freeze/guardbin/umbra-freeze-guard
GUARDSRC := $(shell find internal/host/freeze/guard internal/host/freeze/internal -name '*.go' 2>/dev/null)
GOFILES := $(shell git ls-files -co --exclude-standard '*.go' 2>/dev/null)
export CGO_ENABLED ?= 0

.PHONY: all build guard deps demo test check lab lab-lvm lab-nbd lab-smoke lab-units lab-crash conformance crash-matrix bench bench-lab generate clean

all: build

build: bin/umbra

# The freeze guard is a program of its own, embedded in umbra.
guard: $(GUARD)
$(GUARD): $(GUARDSRC) go.mod
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o $@ ./internal/host/freeze/guard

bin/umbra: $(GUARD) $(GOFILES) go.mod
	CGO_ENABLED=0 go build -trimpath -o $@ ./cmd/umbra

# deps installs the field's own tools (mkfs.*, a C compiler for -race, xmllint).
deps:
	@./build/deps.sh

# demo tells the whole story and cleans up after itself: on this machine's own
# devices where that is possible, else on virtual machines, which need no rights
# (DEMO=lab: in any case).
demo: build
	@./build/demo.sh $(DEMO)

# check is what a change must pass before its tests count.
check: guard
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$')); if [ -n "$$out" ]; then echo "gofmt:"; echo "$$out"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	cd examples/reflink && go vet ./...

# test runs everything: unit, contract suites, end-to-end on real devices, these
# by themselves: they say how soon a volume must be thawed, and one scenario on
# virtual machines.
test: deps build check
	CGO_ENABLED=1 UMBRA_BINARY=$(CURDIR)/bin/umbra go test -race -timeout 25m $$(go list ./... | grep -v /test/e2e)
	cd examples/reflink && go test -count=1 ./...
	CGO_ENABLED=1 UMBRA_BINARY=$(CURDIR)/bin/umbra go test -race -timeout 25m ./test/e2e
	@$(MAKE) --no-print-directory lab-smoke

# lab runs every scenario on virtual machines with a real Debian kernel, real
# SCSI and a real udev (docs/lab.md). No rights are needed.
lab: build
	./build/lab-deps.sh
	UMBRA_LAB=1 UMBRA_BINARY=$(CURDIR)/bin/umbra nice go test -count=1 -v -timeout 15m -parallel 3 ./test/lab ./test/lab/story

# lab-nbd is one more, of LUNs over NBD with the kernel's own client.
lab-nbd: build
	./build/lab-deps.sh
	UMBRA_LAB=1 UMBRA_BINARY=$(CURDIR)/bin/umbra nice go test -count=1 -v -timeout 10m ./test/lab/nbd

# lab-smoke is one of them, from create on one machine to import on another. It
# is left out, and says so, where its packages cannot be had.
lab-smoke: build
	@if ./build/lab-deps.sh; then \
		UMBRA_LAB=1 UMBRA_BINARY=$(CURDIR)/bin/umbra nice go test -count=1 -v -timeout 5m -run Smoke ./test/lab/story; \
	elif [ $$? = 3 ]; then echo "SKIPPED: the scenario on virtual machines (docs/lab.md)"; \
	else exit 1; fi

# lab-lvm kills the daemon at every step of showing a copy's volume group to LVM
# there, and boots the machine.
lab-lvm: build
	./build/lab-deps.sh
	UMBRA_LAB=1 UMBRA_LAB_LVM=1 UMBRA_BINARY=$(CURDIR)/bin/umbra nice go test -count=1 -v -timeout 10m -run TestNewIdentity ./test/lab

# lab-units runs the shipped units there, under Debian's systemd: deaths, restarts,
# stops and reboots.
lab-units: build
	./build/lab-deps.sh
	UMBRA_LAB=1 UMBRA_BINARY=$(CURDIR)/bin/umbra nice go test -count=1 -v -timeout 10m ./test/lab/units

# lab-crash is the crash matrix over iSCSI and NVMe; UPDATE=-update writes what was
# seen into docs/crash-matrix.md.
lab-crash: build
	./build/lab-deps.sh
	UMBRA_LAB=1 UMBRA_BINARY=$(CURDIR)/bin/umbra nice go test -count=1 -v -timeout 30m ./test/lab/deaths -args $(UPDATE)

# conformance holds every method to the specification, in every state and with
# every kind of bad input, against a live service (as root), and prints how many
# rows passed, what the specification leaves open, and the ImportSnapshots page.
conformance: guard
	cd test/conformance && go test -count=1 -args -report

# crash-matrix kills every process at every failpoint, over loop devices and over
# NBD (as root), and writes what came of it to docs/crash-matrix.md, which make
# test holds to be true.
crash-matrix: deps build
	UMBRA_BINARY=$(CURDIR)/bin/umbra go test -count=1 -timeout 25m -run 'TestKilled|TestForeignProvider' ./test/e2e -args -full -update

# bench measures Umbra beside the raw system calls and the usual script.
bench: deps build
	UMBRA_BINARY=$(CURDIR)/bin/umbra go test -run '^$$' -bench . -benchtime 5x -timeout 60m ./bench

# bench-lab measures imports over iSCSI, on virtual machines, beside the same by
# hand. No rights are needed.
bench-lab: build
	./build/lab-deps.sh
	UMBRA_LAB=1 UMBRA_BINARY=$(CURDIR)/bin/umbra go test -run '^$$' -bench ISCSI -benchtime 3x -timeout 30m ./bench

# generate remakes the Go code of proto/ (committed, so that building needs no
# generator) and the page of the order of calls.
generate:
	go tool -modfile=tools/go.mod buf lint
	go tool -modfile=tools/go.mod buf generate
	go test ./internal/service/session -run TestDocument -args -update

clean:
	rm -rf bin $(GUARD)
