// Package site builds a whole site on one machine: an array and any number of
// hosts, each a real process in a mount and a network namespace of its own,
// joined by veth pairs to the array's bridge. `umbra demo` and the end-to-end
// tests run on it.
//
// A namespace is kept by a holder process, so that a daemon can be killed and
// started again while its mounts stay, as on a real machine. Holders and
// daemons end by themselves when the process that made the site dies: they
// read a pipe that it holds. [Site.Close] removes everything a site made, also
// when half of it was never built.
package site
