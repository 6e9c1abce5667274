// Package units runs the shipped unit files as they are, under Debian's systemd, on
// virtual machines.
package units
