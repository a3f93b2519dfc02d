package harness

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Signed checks requests that AWS signs (Signature Version 4) as AWS does: with a secret, from what has arrived, body
// included. A transport that has changed what is signed is found out.
func Signed(secret string) func(*Request) error {
	return func(r *Request) error {
		authorization := r.Header.Get("Authorization")
		fields, ok := strings.CutPrefix(authorization, "AWS4-HMAC-SHA256 ")
		if !ok {
			return fmt.Errorf("it is not signed: %q", authorization)
		}
		said := map[string]string{}
		for field := range strings.SplitSeq(fields, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
			said[name] = value
		}
		_, scope, _ := strings.Cut(said["Credential"], "/")
		steps := strings.Split(scope, "/") // date, region, service, aws4_request
		if len(steps) != 4 {
			return fmt.Errorf("the scope of %q", authorization)
		}
		canonical, err := canonicalRequest(r, said["SignedHeaders"])
		if err != nil {
			return err
		}
		key := []byte("AWS4" + secret)
		for _, step := range steps {
			key = mac(key, step)
		}
		want := hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256\n"+r.Header.Get("X-Amz-Date")+"\n"+scope+"\n"+digest(canonical)))
		if want != said["Signature"] {
			return errors.New("the signature is not that of what has arrived")
		}
		return nil
	}
}

// canonicalRequest is what of a request is signed, as Signature Version 4 writes it.
func canonicalRequest(r *Request, signedHeaders string) (string, error) {
	u, err := url.ParseRequestURI(r.Path)
	if err != nil {
		return "", err
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(signedHeaders, ";") {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	return strings.Join([]string{
		r.Method,
		strings.ReplaceAll(u.EscapedPath(), "%", "%25"), // escaped once for the wire, and once more for the signature
		u.Query().Encode(), headers.String(), signedHeaders, digest(string(r.Body)),
	}, "\n"), nil
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}
