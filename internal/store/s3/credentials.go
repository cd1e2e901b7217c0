package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// metadataTimeout bounds asking a machine or a container for credentials. On a
// machine that is not Amazon's nobody answers there.
const metadataTimeout = 5 * time.Second

// credentialsError says that there are no credentials, or none that can be used.
type credentialsError struct{ why string }

func (e *credentialsError) Error() string { return e.why }

// chain finds credentials when they are first needed, and again when they expire.
// The order is that of the SDK's config package, which is not used: it brings
// the clients of four services along, whose initialization would cost every
// start of the program more than S3's own.
//
//  1. Options.Credentials
//  2. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
//  3. AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (Kubernetes' service accounts)
//  4. the profile in the AWS configuration files: keys, a web identity, or a
//     credential_process
//  5. AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI (ECS, EKS Pod Identity)
//  6. the machine's role (EC2 instance metadata, version 2)
type chain struct {
	options Options
	env     environment
	region  string
	http    *http.Client
}

// Retrieve implements aws.CredentialsProvider. It is called by a cache.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	p, err := c.provider()
	if err != nil {
		return aws.Credentials{}, err
	}
	found, err := p.Retrieve(ctx)
	if err == nil {
		return found, nil
	}
	var network net.Error
	if errors.As(err, &network) || statusOf(err) >= 500 || ctx.Err() != nil {
		return aws.Credentials{}, fmt.Errorf("finding credentials: %w", err) // it may be better the next time
	}
	return aws.Credentials{}, &credentialsError{"finding credentials: " + err.Error()}
}

func (c *chain) provider() (aws.CredentialsProvider, error) {
	if c.options.Credentials != (Credentials{}) {
		return static(c.options.Credentials, "configuration"), nil
	}
	e := c.env
	if key := e.get("AWS_ACCESS_KEY_ID"); key != "" {
		return static(Credentials{key, e.get("AWS_SECRET_ACCESS_KEY"), e.get("AWS_SESSION_TOKEN")}, "environment"), nil
	}
	if file := e.get("AWS_WEB_IDENTITY_TOKEN_FILE"); file != "" {
		return c.webIdentity(file, e.get("AWS_ROLE_ARN"), e.get("AWS_ROLE_SESSION_NAME"))
	}
	profile, err := e.profile()
	if err != nil {
		return nil, err
	}
	if p, err := c.ofProfile(profile); p != nil || err != nil {
		return p, err
	}
	if path := e.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		return c.container("http://169.254.170.2" + path)
	}
	if uri := e.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"); uri != "" {
		return c.container(uri)
	}
	if e.get("AWS_EC2_METADATA_DISABLED") == "true" {
		return nil, &credentialsError{"no credentials: there are none in the configuration, the environment or AWS's files"}
	}
	return machine(), nil
}

// ofProfile gives what a profile says; nil if it says nothing of credentials.
func (c *chain) ofProfile(p profile) (aws.CredentialsProvider, error) {
	switch {
	case p.keys["aws_access_key_id"] != "" && p.keys["role_arn"] == "":
		return static(Credentials{p.keys["aws_access_key_id"], p.keys["aws_secret_access_key"], p.keys["aws_session_token"]}, "profile "+p.name), nil
	case p.keys["web_identity_token_file"] != "":
		return c.webIdentity(p.keys["web_identity_token_file"], p.keys["role_arn"], p.keys["role_session_name"])
	case p.keys["credential_process"] != "":
		return processcreds.NewProvider(p.keys["credential_process"]), nil
	}
	for _, key := range []string{"role_arn", "source_profile", "credential_source", "sso_session", "sso_start_url", "login_session"} {
		if p.keys[key] != "" {
			return nil, &credentialsError{fmt.Sprintf("the profile %s has %s, which is not supported; this line in it does the same: "+
				"credential_process = aws configure export-credentials --profile %s (in a profile of another name)", p.name, key, p.name)}
		}
	}
	return nil, nil
}

func static(k Credentials, source string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		if k.SecretKey == "" {
			return aws.Credentials{}, &credentialsError{"an access key without its secret key, from the " + source}
		}
		return aws.Credentials{AccessKeyID: k.AccessKey, SecretAccessKey: k.SecretKey, SessionToken: k.SessionToken, Source: source}, nil
	})
}

func (c *chain) webIdentity(file, role, session string) (aws.CredentialsProvider, error) {
	if role == "" {
		return nil, &credentialsError{"a web identity token without a role: AWS_ROLE_ARN is not set"}
	}
	o := sts.Options{Region: c.region, HTTPClient: c.http}
	if endpoint := c.env.get("AWS_ENDPOINT_URL_STS"); endpoint != "" {
		o.BaseEndpoint = aws.String(endpoint)
	}
	return stscreds.NewWebIdentityRoleProvider(sts.New(o), role, stscreds.IdentityTokenFile(file),
		func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = session }), nil
}

// container asks an agent beside us. The token that goes along is for nobody else:
// in the clear it is sent to this machine and to the addresses of Amazon's agents.
func (c *chain) container(uri string) (aws.CredentialsProvider, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, &credentialsError{"AWS_CONTAINER_CREDENTIALS_FULL_URI is not a URL"}
	}
	if u.Scheme != "https" && !agentAddress(u.Hostname()) {
		return nil, &credentialsError{"AWS_CONTAINER_CREDENTIALS_FULL_URI leads to " + u.Host + ", which is not on this machine, without TLS"}
	}
	token, file := c.env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"), c.env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
	return endpointcreds.New(uri, func(o *endpointcreds.Options) {
		o.HTTPClient = &http.Client{Timeout: metadataTimeout}
		o.AuthorizationToken = token
		if file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				b, err := os.ReadFile(file)
				return string(b), err
			})
		}
	}), nil
}

func agentAddress(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && (ip.IsLoopback() || ip.Equal(net.ParseIP("169.254.170.2")) ||
		ip.Equal(net.ParseIP("169.254.170.23")) || ip.Equal(net.ParseIP("fd00:ec2::23")))
}

// machine asks the machine's metadata service.
func machine() aws.CredentialsProvider {
	p := ec2rolecreds.New()
	return aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
		defer cancel()
		found, err := p.Retrieve(ctx)
		if errors.Is(err, context.DeadlineExceeded) || statusOf(err) == 0 && err != nil {
			return aws.Credentials{}, &credentialsError{"no credentials: there are none in the configuration, the environment or AWS's files, " +
				"and this machine has none to give: " + err.Error()}
		}
		return found, err
	})
}
