package lab_test

import (
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
)

// TestStrangers: whoever is not who the array knows does not get in, and whoever
// no longer is, is out.
func TestStrangers(t *testing.T) {
	s := newSAN(t, "a", "b")
	a, b := s.l.Machine("a"), s.l.Machine("b")
	impatient(a)
	naa := s.lun("db", "64M", "a")
	a.Sh("umbra rescan")
	d := s.disk(a, naa)
	a.Sh("dd if=/dev/%s of=/dev/null bs=4096 count=1 iflag=direct", d)
	raw, err := b.Pull(t.Context(), "/root/join.bundle")
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := client.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	i := bundle.ISCSI

	// as tries to log in from b with a name and a secret, by hand.
	as := func(initiator, user, secret string) string {
		t.Helper()
		r, err := b.Run(t.Context(), `iscsiadm -m iface -I try -o new >/dev/null 2>&1 || true
iscsiadm -m iface -I try -o update -n iface.initiatorname -v %[1]s >/dev/null
iscsiadm -m node -T %[2]s -p %[3]s,1 -I try -o new >/dev/null
iscsiadm -m node -T %[2]s -p %[3]s,1 -I try -o update -n node.session.initial_login_retry_max -v 1
if test -n "%[5]s"; then for s in authmethod=CHAP username=%[4]s password=%[5]s; do
	iscsiadm -m node -T %[2]s -p %[3]s,1 -I try -o update -n node.session.auth.${s%%%%=*} -v ${s#*=}; done; fi
code=0; iscsiadm -m node -T %[2]s -p %[3]s,1 -I try --login 2>&1 || code=$?
iscsiadm -m node -T %[2]s -p %[3]s,1 -I try --logout >/dev/null 2>&1 || true
iscsiadm -m node -T %[2]s -p %[3]s,1 -I try -o delete >/dev/null
exit $code`, initiator, i.Target, i.Portals[0], user, secret)
		if err == nil {
			return "in"
		}
		return strings.TrimSpace(r.Stdout + r.Stderr)
	}
	if got := as(i.Initiator, i.User, i.Secret); got != "in" {
		t.Fatalf("b does not get in with what it was given, so the rest shows nothing: %s", got)
	}
	for what, got := range map[string]string{
		"a wrong secret":             as(i.Initiator, i.User, "wrong-secret-1234"),
		"no secret":                  as(i.Initiator, "", ""),
		"an initiator nobody knows":  as("iqn.2026-01.io.umbra:stranger", i.User, i.Secret),
		"a's name with b's own word": as(strings.TrimSuffix(i.Initiator, ":b")+":a", i.User, i.Secret),
	} {
		if got == "in" {
			t.Errorf("%s gets in", what)
		} else if !strings.Contains(got, "uthori") && !strings.Contains(got, "not found") {
			t.Errorf("%s fails for another reason: %s", what, got)
		}
	}

	// b is unharmed by that. a is revoked while it has a session.
	a.Sh("dd if=/dev/%s of=/dev/null bs=4096 count=1 iflag=direct", d)
	s.array.Fails("umbra array host remove a") // it has a LUN attached
	s.array.Sh("umbra array host remove a --force")
	if left := s.array.Sh("cat /sys/kernel/config/target/iscsi/%s/tpgt_1/acls/%s/info 2>/dev/null || true", i.Target, strings.TrimSuffix(i.Initiator, ":b")+":a"); strings.Contains(left, "LOGGED_IN") {
		t.Errorf("a's session outlives a:\n%s", left)
	}
	begin := time.Now()
	a.Fails("timeout 60 dd if=/dev/%s of=/dev/null bs=4096 count=1 iflag=direct", d)
	t.Logf("a revoked host's read failed after %.0f s", time.Since(begin).Seconds())
	a.Fails("umbra rescan")
}
