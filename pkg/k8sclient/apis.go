package k8sclient

import (
	"fmt"
	"net"
	"net/http"

	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	nadclient "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/client/clientset/versioned/typed/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/connrotation"
	"k8s.io/client-go/util/flowcontrol"
)

// How fast one node may ask the API server: a node that starts its 250 pods at
// once publishes them in a few seconds.
const (
	defaultQPS   = 50
	defaultBurst = 100
)

// apis are the four APIs that we speak, over one connection and within one
// rate limit. They are no clientset: that, and the generated informers with
// it, links every kind of Kubernetes, which costs each node 7 MiB.
type apis struct {
	http        *http.Client
	connections *connrotation.Dialer
	params      runtime.ParameterCodec
	metadata    metadata.Interface
	definitions nadclient.K8sCniCncfIoV1Interface
	core        rest.Interface
	networking  rest.Interface
}

func connect(given *rest.Config) (*apis, error) {
	config := rest.CopyConfig(given)
	if config.UserAgent == "" {
		config.UserAgent = component
	}
	if config.QPS == 0 {
		config.QPS = defaultQPS
	}
	if config.Burst == 0 {
		config.Burst = defaultBurst
	}
	if config.RateLimiter == nil && config.QPS > 0 {
		config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(config.QPS, config.Burst)
	}
	// A deprecation's warning helps nobody on a node.
	config.WarningHandler = rest.NoWarnings{}
	// It would cut watches too. Every other request has a context with an end.
	config.Timeout = 0
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: askTime, KeepAlive: askTime}).DialContext
	}
	connections := connrotation.NewDialer(config.Dial)
	config.Dial = connections.DialContext
	if config.BearerTokenFile != "" {
		// By itself, client-go reads the file once a minute; this way also
		// after each answer that the token is not valid.
		config.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(config.BearerTokenFile)))
		config.BearerToken, config.BearerTokenFile = "", ""
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, networkingv1.AddToScheme, nadv1.AddToScheme} {
		if err = add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	a := &apis{http: client, connections: connections, params: runtime.NewParameterCodec(scheme)}
	codecs := serializer.NewCodecFactory(scheme)
	config.NegotiatedSerializer = codecs.WithoutConversion()
	if a.metadata, err = metadata.NewForConfigAndClient(config, client); err != nil {
		return nil, err
	}
	if a.core, err = a.group(config, "/api", corev1.SchemeGroupVersion, runtime.ContentTypeProtobuf); err != nil {
		return nil, err
	}
	if a.networking, err = a.group(config, "/apis", networkingv1.SchemeGroupVersion, runtime.ContentTypeProtobuf); err != nil {
		return nil, err
	}
	// Custom resources are JSON only.
	definitions, err := a.group(config, "/apis", nadv1.SchemeGroupVersion, runtime.ContentTypeJSON)
	if err != nil {
		return nil, err
	}
	a.definitions = nadclient.New(definitions)
	return a, nil
}

// group returns a client for one group of kinds.
func (a *apis) group(config *rest.Config, path string, version schema.GroupVersion, content string) (rest.Interface, error) {
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = path, &version
	config.ContentType, config.AcceptContentTypes = content, content
	if content != runtime.ContentTypeJSON {
		config.AcceptContentTypes += "," + runtime.ContentTypeJSON
	}
	return rest.RESTClientForConfigAndClient(config, a.http)
}

// close ends all connections.
func (a *apis) close() { a.connections.CloseAll() }
