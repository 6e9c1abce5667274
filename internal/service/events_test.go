package service_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/umbra-vss/umbra/internal/catalog"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/requester"
	"github.com/umbra-vss/umbra/vss"
)

// TestListEvents asks a service on its socket.
func TestListEvents(t *testing.T) {
	m := newMachine(t)
	set, session := vss.NewID(), vss.NewID()
	begin := time.Now().Truncate(time.Second)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	for i, e := range []catalog.Event{{Name: "create.done", SetID: set}, {Name: "import.partial", SetID: set, Session: session},
		{Name: "import.failed", Failure: &catalog.Failure{Code: vss.VSS_E_PROVIDER_VETO, Reason: "why", Remedy: "do"}}} {
		e.Time = at(i)
		if _, err := m.Catalog.Log(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	h := requester.NewHost(requester.Endpoint(m.Socket))
	defer h.Close()
	for _, tt := range []struct {
		what string
		q    requester.EventQuery
		want string
	}{
		{"all", requester.EventQuery{}, "3 2 1"},
		{"a limit", requester.EventQuery{Limit: 1}, "3"},
		{"a limit beyond all", requester.EventQuery{Limit: 1 << 40}, "3 2 1"},
		{"an ID", requester.EventQuery{ID: "2"}, "2"},
		{"a set", requester.EventQuery{SetID: set}, "2 1"},
		{"a session", requester.EventQuery{Session: session}, "2"},
		{"a level", requester.EventQuery{Level: "warning"}, "3 2"},
		{"an area", requester.EventQuery{Name: "import"}, "3 2"},
		{"a name", requester.EventQuery{Name: "create.done"}, "1"},
		{"since", requester.EventQuery{Since: at(1)}, "3 2"},
		{"until", requester.EventQuery{Until: at(1)}, "1"},
		{"between", requester.EventQuery{Since: at(1), Until: at(2)}, "2"},
		{"an empty time", requester.EventQuery{Since: at(1), Until: at(1)}, ""},
	} {
		es, err := h.Events(t.Context(), tt.q)
		var ids []string
		for _, e := range es {
			ids = append(ids, e.ID)
		}
		if got := strings.Join(ids, " "); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v, want %q", tt.what, got, err, tt.want)
		}
	}
	es, err := h.Events(t.Context(), requester.EventQuery{Limit: 2})
	if err != nil || len(es) != 2 {
		t.Fatalf("%v, %v", es, err)
	}
	if e := es[0]; e.Number != 202 || e.Level != "error" || !e.Session.IsNull() || !e.Time.Equal(at(2)) || e.Err == nil || e.Err.Code != vss.VSS_E_PROVIDER_VETO || e.Err.Remedy != "do" {
		t.Errorf("%+v", e)
	}
	if e := es[1]; e.Number != 201 || e.Session != session || e.SetID != set || e.Err != nil {
		t.Errorf("%+v", e)
	}
	for what, q := range map[string]requester.EventQuery{
		"a level that is none":    {Level: "fatal"},
		"a name that is none":     {Name: "import.finished"},
		"an ID that is none":      {ID: "x"},
		"an end before the begin": {Since: at(2), Until: at(1)},
	} {
		_, err := h.Events(t.Context(), q)
		is(t, what, err, vss.E_INVALIDARG)
	}
}

// TestUnlistedAnswer: what a provider may not answer has an event that names it
// and the method (requester.md 3.9), and the error refers to it.
func TestUnlistedAnswer(t *testing.T) {
	m := newMachine(t)
	m.A.Fail("BeginImport", errors.New("odd"))
	d := servicetest.NewSet(vss.CTX_APP_ROLLBACK, m.A)
	bc := m.Loaded(d)
	op, err := bc.ImportSnapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = op.Wait(t.Context())
	h := requester.NewHost(requester.Endpoint(m.Socket))
	defer h.Close()
	es, lerr := h.Events(t.Context(), requester.EventQuery{Name: "provider.unexpected"})
	if lerr != nil || len(es) != 1 || es[0].Object != m.A.Name || es[0].Session.IsNull() || es[0].Number != 902 || !strings.Contains(es[0].Message, "BeginImport") || es[0].Err.Code != vss.VSS_E_UNEXPECTED_PROVIDER_ERROR {
		t.Errorf("%+v, %v; the import: %v", es, lerr, err)
	}
}
