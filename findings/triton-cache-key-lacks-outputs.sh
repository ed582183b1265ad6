#!/usr/bin/env bash
# Triton's local response cache: the requested outputs are not part of its key.
#
# Expected: a model with `response_cache { enable: true }` and two outputs answers each request with the
# outputs that it asked for.
# Seen (Triton 2.51.0 of nvidia-pytriton 0.7.0, python backend): the key is the model and the bytes of the
# inputs. After a first request for output A, a request with the same input for output B is answered from
# the cache with A alone, as JSON `data`, with status 200; B never comes until the entry is evicted.
#
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); pid=''
trap '[ -z "$pid" ] || { kill "$pid"; wait "$pid" || true; }; rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps nvidia-pytriton==0.7.0 numpy==1.26.4
site=$work/venv/lib/python3.11/site-packages; triton=$site/pytriton/tritonserver
cp "$triton/python_backend_stubs/3.11/triton_python_backend_stub" "$triton/backends/python/"

mkdir -p "$work/models/two/1"
cat >"$work/models/two/config.pbtxt" <<'PBTXT'
name: "two"
backend: "python"
max_batch_size: 8
input [ { name: "X", data_type: TYPE_FP32, dims: [ 1 ] } ]
output [ { name: "A", data_type: TYPE_FP32, dims: [ 1 ] }, { name: "B", data_type: TYPE_FP32, dims: [ 1 ] } ]
response_cache { enable: true }
PBTXT
cat >"$work/models/two/1/model.py" <<'PYTHON'
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        replies = []
        for request in requests:
            x = pb.get_input_tensor_by_name(request, "X").as_numpy()
            wanted = request.requested_output_names()
            made = {"A": x + 1, "B": x + 2}
            replies.append(pb.InferenceResponse([pb.Tensor(name, made[name]) for name in wanted]))
        return replies
PYTHON
read -r http grpc metrics < <(python3.11 - <<'PYTHON'
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))
PYTHON
)
libdir=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
PATH=$work/venv/bin:$PATH LD_LIBRARY_PATH=$libdir:$site/nvidia_pytriton.libs "$triton/bin/tritonserver" \
  --model-repository="$work/models" --backend-directory="$triton/backends" \
  --cache-directory="$triton/caches" --cache-config=local,size=1048576 \
  --http-address=127.0.0.1 --grpc-address=127.0.0.1 --metrics-address=127.0.0.1 \
  --http-port="$http" --grpc-port="$grpc" --metrics-port="$metrics" --allow-gpu-metrics=false \
  --disable-auto-complete-config --exit-timeout-secs=2 >"$work/log" 2>&1 &
pid=$!
url=http://127.0.0.1:$http/v2
for _ in $(seq 200); do curl --silent --fail --output /dev/null "$url/health/ready" && break; sleep 0.1; done

ask() {
  curl --silent "$url/models/two/infer" --data \
    '{"inputs":[{"name":"X","datatype":"FP32","shape":[1,1],"data":[1]}],"outputs":[{"name":"'"$1"'"}]}'
}
curl --silent "$url" | grep -o '"version":"[^"]*"'
first=$(ask A); second=$(ask B)
printf 'asked for A: %s\nasked for B: %s\n' "$first" "$second"
case $first in *'"name":"A"'*) ;; *) echo 'CHANGED: the first reply has no A'; exit 1 ;; esac
case $second in
  *'"name":"B"'*) echo 'CHANGED: the second reply has B'; exit 1 ;;
  *'"name":"A"'*) echo 'as recorded: the request for B got the cached A' ;;
  *) echo 'CHANGED: another reply'; exit 1 ;;
esac
