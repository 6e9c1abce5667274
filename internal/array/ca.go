package array

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"

	"github.com/umbra-vss/umbra/internal/array/client"
	"github.com/umbra-vss/umbra/vss"
)

// The array is its own certificate authority: made once, trusted by nobody but
// its hosts. Validities are long because revocation is a look-up in the
// database at every request, not a date.
const (
	caYears   = 30
	hostYears = 10
	clockSkew = time.Hour // a host's clock may be this far behind
)

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func certError(what string, err error) error {
	return &vss.Error{Code: vss.VSS_E_UNEXPECTED, Op: "array certificates", Object: what, Reason: "a certificate cannot be made or read",
		Remedy: "Restore the array's database from a backup", Err: err}
}

func newAuthority(id vss.ID) (certDER, keyDER []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, certError("CA", err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: "Umbra array " + id.Bare()},
		NotBefore: now.Add(-clockSkew), NotAfter: now.AddDate(caYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if certDER, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key); err != nil {
		return nil, nil, certError("CA", err)
	}
	if keyDER, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, nil, certError("CA", err)
	}
	return certDER, keyDER, nil
}

func parseAuthority(certDER, keyDER []byte) (*authority, error) {
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, certError("CA", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, certError("CA", err)
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, certError("CA", x509.ErrUnsupportedAlgorithm)
	}
	return &authority{cert, k}, nil
}

func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f // positive in 16 bytes
	b[0] |= 0x40 // and never shorter
	return new(big.Int).SetBytes(b)
}

// issue makes a key and a certificate for it.
func (a *authority) issue(tmpl *x509.Certificate) (certDER []byte, key *ecdsa.PrivateKey, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, certError(tmpl.Subject.CommonName, err)
	}
	tmpl.SerialNumber = newSerial()
	tmpl.NotBefore = time.Now().Add(-clockSkew)
	tmpl.NotAfter = time.Now().AddDate(hostYears, 0, 0)
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	if certDER, err = x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key); err != nil {
		return nil, nil, certError(tmpl.Subject.CommonName, err)
	}
	return certDER, key, nil
}

// server makes the certificate the array shows to hosts, anew at every start.
func (a *authority) server(id vss.ID) (tls.Certificate, error) {
	der, key, err := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: client.ServerName(id)}, DNSNames: []string{client.ServerName(id)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}, err
}

// host makes the certificate a host shows to the array.
func (a *authority) host(name string) (certPEM, keyPEM string, leaf *x509.Certificate, err error) {
	der, key, err := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", "", nil, err
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		return "", "", nil, certError(name, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", nil, certError(name, err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER), leaf, nil
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}
