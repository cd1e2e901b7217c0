package s3

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func lookup(vars map[string]string) environment {
	return environment{func(name string) (string, bool) { v, ok := vars[name]; return v, ok }}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const awsConfig = `
# a comment
[default]
region = eu-west-1
output=json

[profile  backup]
region=eu-north-1 # here
s3 =
    max_concurrent_requests = 20
aws_access_key_id = from-config
[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = default
[profile web]
role_arn = arn:aws:iam::1:role/x
web_identity_token_file = /nowhere/token
[profile process]
credential_process = printf '{"Version":1,"AccessKeyId":"PK","SecretAccessKey":"p"}'
`

const awsCredentials = `[default]
aws_access_key_id = AK
aws_secret_access_key = hush=hush
[backup]
AWS_ACCESS_KEY_ID = BK
aws_secret_access_key = b
aws_session_token = tok
[half]
aws_access_key_id = HK
`

func TestRegion(t *testing.T) {
	t.Parallel()
	config := write(t, "config", awsConfig)
	for _, c := range []struct {
		o    Options
		vars map[string]string
		want string // or what the error says
	}{
		{Options{Region: "a"}, map[string]string{"AWS_REGION": "b"}, "a"},
		{Options{}, map[string]string{"AWS_REGION": "b", "AWS_DEFAULT_REGION": "c"}, "b"},
		{Options{}, map[string]string{"AWS_DEFAULT_REGION": "c", "AWS_CONFIG_FILE": config}, "c"},
		{Options{}, map[string]string{"AWS_CONFIG_FILE": config}, "eu-west-1"},
		{Options{}, map[string]string{"AWS_CONFIG_FILE": config, "AWS_PROFILE": "backup"}, "eu-north-1"},
		{Options{}, map[string]string{"AWS_CONFIG_FILE": config, "AWS_PROFILE": "none"}, `no profile "none"`},
		{Options{}, map[string]string{"HOME": "/nonexistent"}, "AWS_REGION"},
		{Options{}, nil, "AWS_REGION"},
		{Options{Endpoint: "http://h"}, nil, "us-east-1"},
	} {
		got, err := lookup(c.vars).region(c.o)
		if err != nil {
			got = err.Error()
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%+v in %v: %q, want %q", c.o, c.vars, got, c.want)
		}
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "pass" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"AccessKeyId":"CK","SecretAccessKey":"c","Token":"t","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(agent.Close)
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || r.Form.Get("WebIdentityToken") != "jwt" || r.Form.Get("RoleArn") != "arn:aws:iam::123456789012:role/salvor" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
			<AccessKeyId>WK</AccessKeyId><SecretAccessKey>w</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration>
			</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	config, credentials := write(t, "config", awsConfig), write(t, "credentials", awsCredentials)
	token, pass := write(t, "token", "jwt"), write(t, "pass", "pass")
	files := func(more ...string) map[string]string {
		vars := map[string]string{"AWS_CONFIG_FILE": config, "AWS_SHARED_CREDENTIALS_FILE": credentials}
		for i := 0; i < len(more); i += 2 {
			vars[more[i]] = more[i+1]
		}
		return vars
	}
	for _, c := range []struct {
		name string
		o    Options
		vars map[string]string
		want string // access key, secret key and token, or what the error says
	}{
		{"options", Options{Credentials: Credentials{"OK", "o", ""}}, files("AWS_ACCESS_KEY_ID", "EK"), "OK o "},
		{"environment", Options{}, files("AWS_ACCESS_KEY_ID", "EK", "AWS_SECRET_ACCESS_KEY", "e", "AWS_SESSION_TOKEN", "t"), "EK e t"},
		{"environment by half", Options{}, files("AWS_ACCESS_KEY_ID", "EK"), "without its secret key"},
		{"default profile", Options{}, files(), "AK hush=hush "},
		{"profile", Options{}, files("AWS_PROFILE", "backup"), "BK b tok"},
		{"half a profile", Options{}, files("AWS_PROFILE", "half"), "without its secret key"},
		{"no such profile", Options{}, files("AWS_PROFILE", "none"), `no profile "none"`},
		{"role", Options{}, files("AWS_PROFILE", "role"), "credential_process = aws configure export-credentials --profile role"},
		{"process", Options{}, files("AWS_PROFILE", "process"), "PK p "},
		{"container", Options{}, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "pass"}, "CK c t"},
		{"container with a file", Options{}, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": pass}, "CK c t"},
		{"container elsewhere", Options{}, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.org/x"}, "not on this machine"},
		{"web identity", Options{}, map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/salvor",
			"AWS_ENDPOINT_URL_STS": sts.URL}, "WK w t"},
		{"web identity of another", Options{}, map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/other",
			"AWS_ENDPOINT_URL_STS": sts.URL}, "403"},
		{"web identity without a role", Options{}, map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token}, "AWS_ROLE_ARN"},
		{"web identity of a profile", Options{}, files("AWS_PROFILE", "web"), "/nowhere/token"},
		{"nothing", Options{}, map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}, "no credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ch := &chain{options: c.o, env: lookup(c.vars), region: "eu-west-1", http: http.DefaultClient}
			found, err := ch.Retrieve(context.Background())
			got := found.AccessKeyID + " " + found.SecretAccessKey + " " + found.SessionToken
			if err != nil {
				got = err.Error()
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestCredentialsAreHidden(t *testing.T) {
	t.Parallel()
	c := Credentials{"AK", "hush", "hush"}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), c.LogValue().String(),
		fmt.Sprintf("%+v", Options{Credentials: c})} {
		if strings.Contains(text, "hush") || !strings.Contains(text, "AK") {
			t.Errorf("%q", text)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(awsConfig)
	f.Add(awsCredentials)
	f.Add("[default\n")
	f.Add("=\n[default]\n=x\na=\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		keys := map[string]string{}
		found, err := parseProfile(strings.NewReader(text), []string{"profile default", "default"}, keys)
		if err == nil && !found && len(keys) > 0 {
			t.Errorf("keys %v of a section that was not found", keys)
		}
	})
}
