"""The stub of the external metrics API in a cluster, for as long as a test lasts."""

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.kubectl import kubectl
from tests.cluster.place import CLIENT, Place
from tests.support.certs import CA

NAME = "external-metrics"
SERVICE = "v1beta1.external.metrics.k8s.io"
# Until the Service's address leads to the pod, an API server may reach something else there, and stay with it.
REACH = """
import ssl, sys, time, urllib.request
while True:
    try:
        context = ssl._create_unverified_context()
        urllib.request.urlopen(sys.argv[1], timeout=2, context=context)
        break
    except OSError:
        time.sleep(0.2)
"""


@contextlib.contextmanager
def external_metrics(place: Place, directory: Path, value: int) -> Iterator[None]:
    """Every external metric is `value`. `directory` takes the certificates."""
    authority = CA(directory)
    pair = authority.server(f"{NAME}.{place.name}.svc")
    source = Path(__file__).parent / "external_metrics.py"
    place.kubectl("create", "configmap", NAME, f"--from-file={source}")
    place.kubectl("create", "secret", "tls", NAME, f"--cert={pair.cert}", f"--key={pair.key}")
    pod = json.loads(json.dumps(CLIENT))
    pod["metadata"] = {"name": NAME, "labels": {"app": NAME}}
    pod["spec"]["volumes"] = [
        {"name": "source", "configMap": {"name": NAME}},
        {"name": "tls", "secret": {"secretName": NAME}},
    ]
    pod["spec"]["containers"][0] |= {
        "command": ["python", "/source/external_metrics.py", str(value)],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [{"name": "source", "mountPath": "/source"}, {"name": "tls", "mountPath": "/tls"}],
    }
    place.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    place.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")
    place.kubectl("expose", "pod", NAME, "--port=443", "--target-port=8443")
    place.python(REACH, f"https://{NAME}/apis/external.metrics.k8s.io/v1beta1", seconds=60)
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": SERVICE},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": base64.b64encode(authority.cert.read_bytes()).decode(),
            "service": {"name": NAME, "namespace": place.name},
        },
    }
    # Created, not applied: where the cluster has an API of this name the test must not take it over.
    kubectl("create", "-f", "-", stdin=json.dumps(service))
    try:
        kubectl("wait", "--for=condition=Available", f"apiservice/{SERVICE}", "--timeout=60s")
        yield
    finally:
        kubectl("delete", "apiservice", SERVICE)
