// Package share makes folders of shadow copies available to other machines:
// as usershares of Samba or as exports of the kernel's NFS server. Both belong
// to the administrator; nothing here starts them, and no file of the
// administrator's is changed. A usershare is made with `net usershare`, an export
// with `exportfs` and a file of its own in /etc/exports.d, as an administrator
// would.
//
// What is shared is never the copy's device object, which only root may enter,
// but a mount of the subtree in a folder of its own, {run-dir}/shares/{name}: a
// read-only view of exactly what was asked for, below which nothing leads out
// of the copy. Samba reads it as the user who connected, NFS as the user the
// client names, so files keep the permissions they were copied with.
//
// Everything may be repeated: making what is there and removing what is not are
// both success. That is how a share outlives a crash, and a reboot.
package share
