// Package demo is the story `umbra demo` tells: an array, machine A under
// load, a shadow copy set of two volumes at one instant, machine B that
// imports it from the document alone while A's service is down, and the proof
// that what B reads is a consistent prefix of what A wrote, across both
// volumes, with not one byte copied. Everything is real: processes, block
// devices, filesystems, namespaces. Everything is removed again.
package demo
