package s3

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ParseURL reads s3://BUCKET/PREFIX?PARAMETERS. The parameters are region,
// endpoint, path_style (true or false), ca_file and checksum (crc32c, md5 or
// none). No error shows what may be a secret.
func ParseURL(raw string) (Options, error) {
	u, err := url.Parse(raw)
	if err != nil {
		var perr *url.Error
		if errors.As(err, &perr) {
			err = perr.Err // without the URL, which may hold anything
		}
		return Options{}, err
	}
	switch {
	case !strings.EqualFold(u.Scheme, "s3"), u.Opaque != "":
		return Options{}, errors.New("want s3://BUCKET/PREFIX")
	case u.User != nil:
		return Options{}, errors.New("it must not hold a user: credentials are given apart")
	case u.Port() != "":
		return Options{}, errors.New("a bucket has no port: the server is given as endpoint=https://host:port")
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return Options{}, errors.New("a # is not allowed")
	}
	o := Options{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, errors.New("its parameters are not written as name=value&name=value")
	}
	for name, values := range query {
		if len(values) != 1 || values[0] == "" {
			return Options{}, fmt.Errorf("the parameter %.40q needs one value", name)
		}
		if err := o.set(name, values[0]); err != nil {
			return Options{}, err
		}
	}
	return o, o.validate()
}

func (o *Options) set(name, value string) error {
	switch name {
	case "region":
		o.Region = value
	case "endpoint":
		o.Endpoint = strings.TrimSuffix(value, "/")
	case "ca_file":
		o.CAFile = value
	case "checksum":
		o.Checksum = Checksum(value)
	case "path_style":
		yes, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("path_style must be true or false")
		}
		o.PathStyle = &yes
	default:
		known := []string{"ca_file", "checksum", "endpoint", "path_style", "region"}
		return fmt.Errorf("the parameter %.40q is unknown; there are %s", name, strings.Join(known, ", "))
	}
	return nil
}

// url is the URL that ParseURL reads these options from.
func (o Options) url() string {
	var query []string
	add := func(name, value string) {
		if value != "" {
			query = append(query, name+"="+strings.ReplaceAll(url.QueryEscape(value), "%2F", "/"))
		}
	}
	add("ca_file", o.CAFile)
	add("checksum", string(o.Checksum))
	add("endpoint", o.Endpoint)
	if o.PathStyle != nil {
		add("path_style", strconv.FormatBool(*o.PathStyle))
	}
	add("region", o.Region)
	slices.Sort(query)
	u := url.URL{Scheme: "s3", Host: o.Bucket, RawQuery: strings.ReplaceAll(strings.Join(query, "&"), "%3A", ":")}
	if o.Prefix != "" {
		u.Path = "/" + o.Prefix
	}
	return u.String()
}
