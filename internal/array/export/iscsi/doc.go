// Package iscsi exports LUNs through LIO, the kernel's own target, which is
// driven by folders, links and small files of configfs.
//
// # What is where
//
//	core/fileio_7480/naa.…           a backstore: the LUN's file, its identity
//	iscsi/iqn.…:array.{id}/tpgt_1    the array's one target
//	  np/ADDR:PORT                   a portal
//	  lun/lun_N                      a LUN of the target; N is nobody's business
//	  acls/iqn.…:{host}              an enrolled host, with CHAP secrets both ways
//	    lun_M                        what that host sees, at its own number M
//
// A LUN has a backstore for as long as somebody is mapped to it. A host without
// an ACL cannot log in, and one with an ACL sees what is mapped to it alone.
//
// # Orders that matter
//
// The identity is written before the backstore is enabled: from then on it may
// be asked for. emulate_tpu is written after: on some kernels writing it before
// is a NULL dereference. A mapping cannot be made read-only until it exists, so
// the target makes every mapping read-only by itself (prod_mode_write_protect)
// and originals are opened for writing afterwards: no copy is ever writable,
// not for a moment. Of a new target the hosts and LUNs come first and the
// portals last, so that a host that has been waiting for the array to come back
// finds everything in place.
//
// What the kernel exports outlives the array's process. The next one reads it
// ([Target.Reconcile]), makes it what the database says, and reports what was
// not.
package iscsi
