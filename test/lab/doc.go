// Package lab runs scenarios on machines with a real Debian kernel: real SCSI
// disks, a real iSCSI target, a real udev. Each is a small virtual machine
// (QEMU; with KVM where the processor has it, else emulated), all are joined by
// a network that the test itself switches, and the test has a shell on each.
//
//	l := lab.Start(t, lab.Machines{"array", "a", "b"})
//	array, a := l.Machine("array"), l.Machine("a")
//	array.Sh("mkfs.xfs -q /dev/vda && mkdir /store && mount /dev/vda /store")
//	serve := array.Start("serve", "umbra array serve --dir /store ...")
//	a.Sh("umbra --version")
//	l.CutNetwork("a", "array")
//	a.PowerOff()
//
// They begin with the memory of a machine that has booted, so that they are up
// in a second.
//
// What it needs it fetches itself (build/lab-deps.sh). No rights are needed, and
// nothing of this machine is changed: no tap device, no bridge, no root.
//
// Whatever happens, the machines are gone when the test is over: they die with
// the test's process as well. When a test failed, the ends of the consoles and
// of the background programs' logs are shown, and the whole of them is kept in
// the test's artifacts (go test -artifacts). A kernel that says "Oops" or "BUG"
// fails the test, whatever the test itself made of it.
//
// Without UMBRA_LAB=1 in the environment, Start skips the test.
//
// An emulated machine runs Go twenty to thirty times slower than this one:
// nothing that computes much belongs there, and no measurement of time but
// ratios.
package lab
