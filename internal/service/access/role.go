package access

import (
	"fmt"
	"strconv"
)

// Role is what an account may be. The numbers are VssAccessControl's.
type Role uint8

// Roles; they can be joined.
const (
	None      Role = 0
	Writer    Role = 1
	Requester Role = 2
	Both      Role = Writer | Requester
)

var roleNames = [...]string{None: "none", Writer: "writer", Requester: "requester", Both: "both"}

func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return "role " + strconv.Itoa(int(r))
}

// UnmarshalText reads a role's name or its number.
func (r *Role) UnmarshalText(b []byte) error {
	for i, name := range roleNames {
		if s := string(b); s == name || s == strconv.Itoa(i) {
			*r = Role(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no role; the roles are none (0), writer (1), requester (2) and both (3)", b)
}
