// Package daemon is `umbra daemon`: it reads the configuration, recovers what
// the last life left, puts host, providers and service together and serves the
// unix socket until it is told to stop.
package daemon
