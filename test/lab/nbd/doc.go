// Package nbd has the scenario of LUNs over NBD with the kernel's own client, as
// test (make lab-nbd). Its machines need QEMU's storage daemon and nbdkit, which
// others do not have.
package nbd
