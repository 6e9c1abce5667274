// Package image makes what a lab machine boots from: the kernel and an
// initramfs with the programs of Debian's packages, put together from where
// build/lab-deps.sh unpacked them, and our own program.
//
// It is two archives in one file, which the kernel unpacks one after the other.
// The base has Debian's files and is kept until what it is made of changes; the
// other has umbra, which changes with every build. Neither is compressed: an
// emulated processor is slow at it.
package image
