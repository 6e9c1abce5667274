// Package loop attaches LUNs of an array on this machine as loop devices.
//
// The array checks the mask, opens the LUN's file (read-only for a copy) and
// passes the descriptor; this package gives the descriptor to the loop driver.
// So the array's mask is enforced by what the descriptor can do, and nothing
// here ever names a file. [Target] is the array's side, declared here because
// it is called from here.
//
// The device carries the LUN's identifier and this host's tag in the driver's
// name field (block.LoopName), so what is attached can be found again without a
// record, after a crash as well.
//
// Detaching a loop device is lazy in the kernel: it answers yes and lets go
// with the last user. [Initiator.Detach] therefore asks first whether anybody
// uses it, and afterwards until it is gone. [Initiator.Abandon] is for who wants
// just that laziness.
package loop
