package document

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/umbra-vss/umbra/vss"
)

// Members of a bundle.
const (
	memberComponents = "backup-components.xml" // the document; always first
	memberManifest   = "manifest"              // always last
)

// bundleMagic is the first line of the manifest. Bundles that hold more (writer
// metadata documents as writers/{id}.xml, names a requester gave to copies) get
// a new version, so that a reader that does not know them says so.
const bundleMagic = "umbra-bundle 1\n"

// manifest lists the members before it, one a line, in their order.
func manifest(members []member) []byte {
	var b bytes.Buffer
	b.WriteString(bundleMagic)
	fmt.Fprintf(&b, "schema %s\n", CurrentSchema)
	for _, m := range members {
		fmt.Fprintf(&b, "sha256 %x %d %s\n", sha256.Sum256(m.data), len(m.data), m.name)
	}
	return b.Bytes()
}

type member struct {
	name string
	data []byte
}

// WriteBundle writes the file that travels between machines: a zip archive with
// the document and a manifest of checksums. Equal documents give equal members.
//
// An invalid document gives VSS_E_INVALID_XML_DOCUMENT before anything is
// written; a writer that fails gives VSS_E_UNEXPECTED, and what it got is no
// bundle. The caller makes the file durable.
func WriteBundle(w io.Writer, d *Document) error {
	xml, err := Marshal(d)
	if err != nil {
		return err
	}
	members := []member{{memberComponents, xml}}
	b, err := archive(append(members, member{memberManifest, manifest(members)}))
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
func Read(b []byte) (*Document, error) {
	if !bytes.HasPrefix(b, []byte("PK")) {
		if len(bytes.TrimLeft(b, " \t\r\n")) == 0 {
			return nil, bundleFault("the file is empty").withRemedy(remedyCopy).err("read document")
		}
		return Unmarshal(b)
	}
	members, f := unpack(b)
	if f != nil {
		return nil, f.err("read bundle")
	}
	return Unmarshal(members[0].data)
}

func bundleFault(reason string, args ...any) *fault { return faultAt("bundle", reason, args...) }

// Zip structures without extras, which is all that archive writes.
const (
	zipLocalHeader     = 30
	zipDirectoryHeader = 46
	zipEnd             = 22
)

func unpack(b []byte) ([]member, *fault) {
	if len(b) > MaxSize {
		return nil, bundleFault("the bundle has more than %d bytes", MaxSize)
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, bundleFault("the archive is incomplete or damaged: %v", err).withRemedy(remedyCopy)
	}
	if len(z.File) == 0 || z.File[0].Name != memberComponents {
		return nil, bundleFault("the archive does not begin with %s", memberComponents).
			withRemedy("Give the bundle that umbra create wrote, not another zip file")
	}
	if f := contiguous(z, b); f != nil {
		return nil, f
	}
	members := make([]member, len(z.File))
	for i, zf := range z.File {
		data, f := inflate(zf)
		if f != nil {
			return nil, f
		}
		members[i] = member{zf.Name, data}
	}
	last := len(members) - 1
	if members[last].name != memberManifest {
		return nil, bundleFault("the archive does not end with its manifest")
	}
	if m := members[last].data; !bytes.HasPrefix(m, []byte(bundleMagic)) {
		if bytes.HasPrefix(m, []byte("umbra-bundle ")) {
			return nil, bundleFault("the bundle is of a version that is not known here").withRemedy(remedyUpdate)
		}
		return nil, bundleFault("the manifest is not Umbra's")
	}
	for _, m := range members[1:last] {
		return nil, bundleFault("it holds %q, which does not belong in it", m.name)
	}
	if !bytes.Equal(members[last].data, manifest(members[:last])) {
		return nil, bundleFault("the checksums of the manifest do not fit the members").withRemedy(remedyCopy)
	}
	return members[:last], nil
}

// contiguous insists that the archive is its members, its directory and its end
// record, each where the one before ends. Zip readers disagree on archives
// that are not; here they are refused.
func contiguous(z *zip.Reader, b []byte) *fault {
	const maxMembers = 256 // a document, its writers' metadata, a manifest
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
