package document

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// Members of a bundle.
const (
	memberComponents = "backup-components.xml" // the document; always first
	memberManifest   = "manifest"              // always last
)

// The first line of the manifest has the bundle's version. A bundle that holds
// more than the document is of version 2, so that a reader which does not know
// writers' metadata says so; one that does not is still of version 1.
const (
	bundleMagic   = "umbra-bundle "
	bundleAlone   = "1"
	bundleWriters = "2"
)

// manifest lists the members before it, one a line, in their order. The schema
// is that of the document.
func manifest(schema string, members []member) []byte {
	var b bytes.Buffer
	version := bundleAlone
	if len(members) > 1 {
		version = bundleWriters
	}
	fmt.Fprintf(&b, "%s%s\nschema %s\n", bundleMagic, version, schema)
	for _, m := range members {
		fmt.Fprintf(&b, "sha256 %x %d %s\n", sha256.Sum256(m.data), len(m.data), m.name)
	}
	return b.Bytes()
}

type member struct {
	name string
	data []byte
}

// memberWriter is the name of a writer's metadata in a bundle.
func memberWriter(w *WriterMetadata) string { return "writers/" + w.InstanceID.Bare() + ".xml" }

// Bundle is all that travels.
type Bundle struct {
	Document *Document
	// Writers are the metadata of the writers that took part, by instance ID.
	// Nobody signs them: what they say about files is for who reads the copies,
	// and [WriterMetadata.OnCopies] keeps it inside them.
	Writers []*WriterMetadata
}

// Writer returns the metadata of a writer instance, nil if the bundle has none.
func (b *Bundle) Writer(instance vss.ID) *WriterMetadata {
	for _, w := range b.Writers {
		if w.InstanceID == instance {
			return w
		}
	}
	return nil
}

// WriteBundle writes the file that travels between machines: a zip archive with
// the document, the metadata of the writers that took part, in any order, and a
// manifest of checksums. Equal content gives equal members.
//
// What is invalid gives VSS_E_INVALID_XML_DOCUMENT before anything is written;
// a writer that fails gives VSS_E_UNEXPECTED, and what it got is no bundle. The
// caller makes the file durable.
func WriteBundle(w io.Writer, d *Document, writers ...*WriterMetadata) error {
	xml, err := Marshal(d)
	if err != nil {
		return err
	}
	members := []member{{memberComponents, xml}}
	if len(writers) > MaxWriters {
		return bundleFault("metadata of %d writers, %d is the limit", len(writers), MaxWriters).err("write bundle")
	}
	for _, m := range writers {
		xml, err := MarshalWriterMetadata(m)
		if err != nil {
			return err
		}
		members = append(members, member{memberWriter(m), xml})
	}
	slices.SortFunc(members[1:], func(a, b member) int { return strings.Compare(a.name, b.name) })
	size := 0
	for i, m := range members {
		if size += len(m.data); i > 1 && m.name == members[i-1].name {
			return bundleFault("%s comes twice: two writers have the same instance ID", m.name).err("write bundle")
		}
	}
	last := member{memberManifest, manifest(d.schema(), members)}
	if size += len(last.data); size > MaxSize {
		return bundleFault("it would hold %d bytes, %d is the limit", size, MaxSize).
			withRemedy("Back up fewer writers at once").err("write bundle")
	}
	b, err := archive(append(members, last))
	if err == nil {
		_, err = w.Write(b)
	}
	if err != nil {
		return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "write bundle", Object: "backup components document",
			Reason: "the bundle could not be written", Remedy: "Make room where the bundle is to be stored, and save it again", Err: err}
	}
	return nil
}

// archive writes members one after the other with sizes and checksums in their
// headers, so that a reader can insist that nothing lies between them.
func archive(members []member) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, m := range members {
		var packed bytes.Buffer
		c, err := flate.NewWriter(&packed, flate.DefaultCompression)
		if err != nil {
			return nil, err
		}
		if _, err := c.Write(m.data); err != nil {
			return nil, err
		}
		if err := c.Close(); err != nil {
			return nil, err
		}
		w, err := z.CreateRaw(&zip.FileHeader{Name: m.name, Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(m.data),
			CompressedSize64: uint64(packed.Len()), UncompressedSize64: uint64(len(m.data))})
		if err != nil {
			return nil, err
		}
		if _, err := packed.WriteTo(w); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Read reads a document from a bundle, or from bare XML as SaveAsXML gives it.
// It is safe on any input. Whatever is not exactly what WriteBundle or Marshal
// wrote (another archive, something before, between or behind the members, a
// cut end, a wrong checksum) gives VSS_E_INVALID_XML_DOCUMENT. Callers need not
// pass more than MaxSize+1 bytes.
//
// A bundle's writer metadata is checked and let go; [ReadBundle] returns it.
func Read(b []byte) (*Document, error) {
	all, err := ReadBundle(b)
	if err != nil {
		return nil, err
	}
	return all.Document, nil
}

// ReadBundle is Read for who wants the writers' metadata as well. Bare XML is a
// bundle without any.
func ReadBundle(b []byte) (*Bundle, error) {
	if !bytes.HasPrefix(b, []byte("PK")) {
		if len(bytes.TrimLeft(b, " \t\r\n")) == 0 {
			return nil, bundleFault("the file is empty").withRemedy(remedyCopy).err("read document")
		}
		d, err := Unmarshal(b)
		if err != nil {
			return nil, err
		}
		return &Bundle{Document: d}, nil
	}
	members, schema, f := unpack(b)
	if f != nil {
		return nil, f.err("read bundle")
	}
	d, err := Unmarshal(members[0].data)
	if err != nil {
		return nil, err
	}
	if d.SchemaVersion != schema {
		return nil, bundleFault("the manifest says schema %s, the document %s", schema, d.SchemaVersion).err("read bundle")
	}
	all := &Bundle{Document: d}
	for _, m := range members[1:] {
		w, err := UnmarshalWriterMetadata(m.data)
		if err != nil {
			return nil, err
		}
		if memberWriter(w) != m.name {
			return nil, bundleFault("%q holds the metadata of instance %s", m.name, w.InstanceID).err("read bundle")
		}
		all.Writers = append(all.Writers, w)
	}
	return all, nil
}

func bundleFault(reason string, args ...any) *fault { return faultAt("bundle", reason, args...) }

// Zip structures without extras, which is all that archive writes.
const (
	zipLocalHeader     = 30
	zipDirectoryHeader = 46
	zipEnd             = 22
)

// unpack returns the document and the writers' metadata, in their order, and
// the schema of the document as the manifest has it.
func unpack(b []byte) ([]member, string, *fault) {
	fail := func(f *fault) ([]member, string, *fault) { return nil, "", f }
	if len(b) > MaxSize {
		return fail(bundleFault("the bundle has more than %d bytes", MaxSize))
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return fail(bundleFault("the archive is incomplete or damaged: %v", err).withRemedy(remedyCopy))
	}
	if len(z.File) == 0 || z.File[0].Name != memberComponents {
		return fail(bundleFault("the archive does not begin with %s", memberComponents).
			withRemedy("Give the bundle that umbra create wrote, not another zip file"))
	}
	if f := contiguous(z, b); f != nil {
		return fail(f)
	}
	members := make([]member, len(z.File))
	for i, zf := range z.File {
		data, f := inflate(zf)
		if f != nil {
			return fail(f)
		}
		members[i] = member{zf.Name, data}
	}
	last := len(members) - 1
	if members[last].name != memberManifest {
		return fail(bundleFault("the archive does not end with its manifest"))
	}
	version, rest, _ := strings.Cut(string(members[last].data), "\n")
	version, ours := strings.CutPrefix(version, bundleMagic)
	switch {
	case !ours:
		return fail(bundleFault("the manifest is not Umbra's"))
	case version != bundleAlone && version != bundleWriters:
		return fail(bundleFault("the bundle is of a version that is not known here").withRemedy(remedyUpdate))
	}
	for i, m := range members[1:last] {
		switch {
		case version == bundleAlone || !writerMember(m.name):
			return fail(bundleFault("it holds %q, which does not belong in it", m.name))
		case i > 0 && m.name <= members[i].name:
			return fail(bundleFault("%q comes twice, or not in its order", m.name))
		}
	}
	schema, _, _ := strings.Cut(rest, "\n")
	schema = strings.TrimPrefix(schema, "schema ")
	if !knownSchema(schema) {
		return fail(bundleFault("the document is of a version that is not known here").withRemedy(remedyUpdate))
	}
	if !bytes.Equal(members[last].data, manifest(schema, members[:last])) {
		return fail(bundleFault("the checksums of the manifest do not fit the members").withRemedy(remedyCopy))
	}
	return members[:last], schema, nil
}

// writerMember reports whether a name is one that memberWriter gives.
func writerMember(name string) bool {
	s, ok := strings.CutPrefix(name, "writers/")
	s, xml := strings.CutSuffix(s, ".xml")
	id, err := vss.ParseID(s)
	return ok && xml && err == nil && id.Bare() == s
}

// contiguous insists that the archive is its members, its directory and its end
// record, each where the one before ends. Zip readers disagree on archives
// that are not; here they are refused.
func contiguous(z *zip.Reader, b []byte) *fault {
	const maxMembers = MaxWriters + 2 // the document, its writers' metadata, the manifest
	if len(z.File) > maxMembers || z.Comment != "" {
		return bundleFault("%d members and a comment of %d bytes are not what a bundle has", len(z.File), len(z.Comment))
	}
	var at, directory, unpacked uint64
	for i, f := range z.File {
		const packedWith = 1<<11 | 0x6 // UTF-8 names, compression level
		switch {
		case len(f.Extra) > 0 || f.Comment != "" || f.Flags&^packedWith != 0:
			return bundleFault("member %d has fields that a bundle does not have", i+1)
		case f.Method != zip.Deflate:
			return bundleFault("member %d is packed with method %d", i+1, f.Method)
		case len(f.Name) > 255 || strings.ContainsAny(f.Name, "\\\x00"):
			return bundleFault("member %d has a name that a bundle does not have", i+1)
		}
		start, err := f.DataOffset()
		if err != nil || uint64(start) != at+zipLocalHeader+uint64(len(f.Name)) {
			return bundleFault("member %d is not where the one before it ends", i+1)
		}
		at = uint64(start) + f.CompressedSize64
		directory += zipDirectoryHeader + uint64(len(f.Name))
		unpacked += f.UncompressedSize64
		// Both are below 2^32 times the number of members: no overflow.
		if f.CompressedSize64 > MaxSize || f.UncompressedSize64 > MaxSize || unpacked > MaxSize {
			return bundleFault("it unpacks to more than %d bytes", MaxSize)
		}
	}
	if at+directory+zipEnd != uint64(len(b)) {
		return bundleFault("there are bytes in the archive that belong to no member")
	}
	// Both headers of a member have the same 26 bytes from the version on, and
	// then the name.
	local, central := b, b[at:]
	for i, f := range z.File {
		n := len(f.Name)
		if !bytes.Equal(local[4:zipLocalHeader], central[6:32]) || !bytes.HasPrefix(local[zipLocalHeader:], []byte(f.Name)) {
			return bundleFault("the two headers of member %d differ", i+1)
		}
		local = local[zipLocalHeader+n+int(f.CompressedSize64):]
		central = central[zipDirectoryHeader+n:]
	}
	return nil
}

func inflate(f *zip.File) ([]byte, *fault) {
	damaged := func(err error) *fault {
		return bundleFault("member %s is damaged: %v", f.Name, err).withRemedy(remedyCopy)
	}
	r, err := f.Open()
	if err != nil {
		return nil, damaged(err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, int64(f.UncompressedSize64)+1))
	if err != nil {
		return nil, damaged(err)
	}
	if uint64(len(data)) != f.UncompressedSize64 {
		return nil, damaged(fmt.Errorf("its size is not what the directory says"))
	}
	return data, nil
}
