// Package access decides who may use the service.
//
// The model knows two roles. A writer is called during a backup, a requester
// makes one. Root, the operators group (the model's Backup Operators) and
// whoever the configuration names may call; anybody else gets E_ACCESSDENIED
// before any method's code runs. The configuration's list is the model's
// VssAccessControl: an account and what it may be, of which 0 is an explicit
// "none" that no membership outweighs.
//
// [New] reads a [Config] and refuses what it does not know, because a
// misspelled "none" would let somebody in. [Policy.Allowed] decides. The rules,
// in this order:
//
//  1. root may do everything, and cannot be locked out: it could edit the list;
//  2. "none" for the user, or for any group the user is in, is none;
//  3. an entry for the user is all the user may be, more or less than its groups;
//  4. without one it is what the entries of its groups and the operators group
//     allow together. An entry for the operators group itself replaces its "both".
//
// Who is in which group is asked of the account database, at most once in
// [remember] for each user, for a limited time, and only when it matters.
package access
