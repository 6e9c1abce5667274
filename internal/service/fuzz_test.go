package service_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	vssv1 "github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1"
	"github.com/umbra-vss/umbra/internal/gen/umbra/vss/v1/vssv1connect"
	"github.com/umbra-vss/umbra/internal/service"
	"github.com/umbra-vss/umbra/internal/service/servicetest"
	"github.com/umbra-vss/umbra/vss"
)

// handlers are the unary methods of an RPC service, by name. Streams have no
// request but a token or an ID.
func handlers[I any](server I) (names []string, call map[string]func(context.Context, proto.Message) error, request map[string]func() proto.Message) {
	call, request = map[string]func(context.Context, proto.Message) error{}, map[string]func() proto.Message{}
	v, iface := reflect.ValueOf(server), reflect.TypeFor[I]()
	for i := range iface.NumMethod() {
		name := iface.Method(i).Name
		m := v.MethodByName(name)
		if m.Type().NumIn() != 2 || m.Type().NumOut() != 2 {
			continue
		}
		arg := m.Type().In(1).Elem() // connect.Request[T]
		msg, _ := arg.FieldByName("Msg")
		names = append(names, name)
		request[name] = func() proto.Message { return reflect.New(msg.Type.Elem()).Interface().(proto.Message) }
		call[name] = func(ctx context.Context, req proto.Message) error {
			r := reflect.New(arg)
			r.Elem().FieldByName("Msg").Set(reflect.ValueOf(req))
			out := m.Call([]reflect.Value{reflect.ValueOf(ctx), r})
			err, _ := out[1].Interface().(error)
			return err
		}
	}
	slices.Sort(names)
	return
}

// put sets a string field of a request, if it has it.
func put(m proto.Message, field, value string) {
	r := m.ProtoReflect()
	if f := r.Descriptor().Fields().ByName(protoreflect.Name(field)); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
		r.Set(f, protoreflect.ValueOfString(value))
	}
}

// judge fails a call that nobody foresaw, or whose error does not say what
// helps. What took too long was given up.
func judge(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	e := vss.AsError("", err)
	switch {
	case e.Code == vss.VSS_E_UNEXPECTED, e.Code == vss.E_UNEXPECTED, e.Code == vss.E_FAIL, strings.HasPrefix(e.Code.Name(), "HRESULT("):
		t.Errorf("%s: %+v", name, e)
	case e.Reason == "" || e.Remedy == "":
		t.Errorf("%s: no reason or remedy: %+v", name, e)
	}
}

// seeds gives a fuzz target an empty request of each method, and one with
// something in every field.
func seeds(f *testing.F, names []string, request map[string]func() proto.Message, add func(method byte, msg []byte)) {
	for i, n := range names {
		m := request[n]()
		add(byte(i), nil)
		fill(m.ProtoReflect())
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		add(byte(i), b)
	}
}

func fill(m protoreflect.Message) {
	fs := m.Descriptor().Fields()
	for i := range fs.Len() {
		fd := fs.Get(i)
		switch {
		case fd.IsList(), fd.IsMap():
		case fd.Kind() == protoreflect.StringKind:
			m.Set(fd, protoreflect.ValueOfString("/x"))
		case fd.Kind() == protoreflect.BytesKind:
			m.Set(fd, protoreflect.ValueOfBytes(make([]byte, 16)))
		case fd.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(fd).Message())
		case fd.Kind() == protoreflect.BoolKind:
			m.Set(fd, protoreflect.ValueOfBool(true))
		case fd.Kind() == protoreflect.Int32Kind:
			m.Set(fd, protoreflect.ValueOfInt32(2))
		case fd.Kind() == protoreflect.Uint32Kind:
			m.Set(fd, protoreflect.ValueOfUint32(9))
		}
	}
}

// FuzzShadowCopyService gives arbitrary requests to every method, on objects
// in several states: none panics, and each answers a code that is documented.
func FuzzShadowCopyService(f *testing.F) {
	m := servicetest.NewMachine(f)
	server := service.Server{S: m.Service}
	volume := m.Volume("v")
	names, call, request := handlers[vssv1connect.ShadowCopyServiceHandler](server)
	if len(names) < 50 {
		f.Fatalf("%d methods", len(names))
	}
	xml := m.XML(servicetest.NewSet(vss.CTX_NAS_ROLLBACK, m.A))
	const states = 6
	seeds(f, names, request, func(method byte, msg []byte) {
		for state := range byte(states) {
			f.Add(method, state, true, msg)
		}
	})
	for i, n := range names {
		if strings.HasPrefix(n, "Initialize") {
			b, _ := proto.Marshal(&vssv1.InitializeRequest{Document: xml})
			f.Add(byte(i), byte(0), true, b)
		}
		if n == "AddToSnapshotSet" {
			b, _ := proto.Marshal(&vssv1.VolumeRequest{Volume: volume})
			f.Add(byte(i), byte(2), true, b)
		}
	}
	f.Fuzz(func(t *testing.T, method, state byte, mine bool, msg []byte) {
		name := names[int(method)%len(names)]
		req := request[name]()
		if proto.Unmarshal(msg, req) != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		token, err := m.Service.OpenForTest()
		if err != nil {
			t.Fatal(err)
		}
		defer m.Service.CloseForTest(token)
		session := &vssv1.SessionRequest{Token: token}
		do := func(name string, req proto.Message) {
			if err := call[name](ctx, req); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		async := ""
		switch state % states {
		case 1, 2:
			do("InitializeForBackup", &vssv1.InitializeRequest{Token: token})
			do("SetContext", &vssv1.SetContextRequest{Token: token, Context: uint32(nasTransportable)})
			if state%states == 2 {
				do("StartSnapshotSet", session)
			}
		case 3:
			do("InitializeForBackup", &vssv1.InitializeRequest{Token: token, Document: xml})
		case 4:
			do("InitializeForRestore", &vssv1.InitializeRequest{Token: token, Document: xml})
		case 5:
			do("InitializeForBackup", &vssv1.InitializeRequest{Token: token})
			r, err := server.GatherWriterMetadata(ctx, connect.NewRequest(session))
			if err != nil {
				t.Fatal(err)
			}
			async = r.Msg.AsyncId
		}
		if mine { // else whatever the request has
			put(req, "token", token)
			put(req, "async_id", async)
		}
		if err := service.CheckBounds(name, req.ProtoReflect()); err != nil {
			judge(t, name, err)
			return
		}
		judge(t, name, call[name](ctx, req))
	})
}

// FuzzHostService is the same for what an administrator asks.
func FuzzHostService(f *testing.F) {
	m := servicetest.NewMachine(f)
	names, call, request := handlers[vssv1connect.HostServiceHandler](service.Server{S: m.Service})
	if len(names) < 10 {
		f.Fatalf("%d methods", len(names))
	}
	seeds(f, names, request, func(method byte, msg []byte) { f.Add(method, msg) })
	f.Fuzz(func(t *testing.T, method byte, msg []byte) {
		name := names[int(method)%len(names)]
		req := request[name]()
		if proto.Unmarshal(msg, req) != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := service.CheckBounds(name, req.ProtoReflect()); err != nil {
			judge(t, name, err)
			return
		}
		judge(t, name, call[name](ctx, req))
	})
}
