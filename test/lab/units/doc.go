// Package units runs the shipped unit files as they are, installed as
// docs/operations.md says, under Debian's systemd on virtual machines: what they
// allow is enough, who is killed comes back, and restarts, stops and reboots harm
// nobody who reads and writes.
package units
