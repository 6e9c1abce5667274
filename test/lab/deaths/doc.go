// Package deaths is the crash matrix over iSCSI and NVMe: on virtual machines, the
// array and the importing host's daemon are killed at failpoints that nobody can die
// at, or that mean something else, where LUNs are loop devices.
package deaths
