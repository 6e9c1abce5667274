// Package e2e drives Umbra as its users do, on real devices: an array, hosts
// in namespaces of their own, loop devices, ext4, xfs and btrfs. The tests run
// the binary that UMBRA_BINARY names, or build one.
//
// After the last test nothing may be left on the machine: TestMain compares
// loop devices, mounts and processes with what was there before.
package e2e
