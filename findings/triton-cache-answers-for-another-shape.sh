#!/usr/bin/env bash
# Triton's local response cache: the shapes of the inputs are not part of its key.
#
# Expected: [[1,2,3,4]] and [[1,2],[3,4]] are two requests of one model that takes any length; the second
# has two rows in its answer.
# Seen (Triton 2.51.0 of nvidia-pytriton 0.7.0, python backend): a key holds the names and the bytes of the
# inputs. A request whose numbers are those of an earlier one, cut into other rows, gets the earlier
# answer: one row where two were asked for, with status 200. Token ids of batches padded to one length
# meet this by chance when a batch is cut anew. Without the cache both answers are right.
#
# Needs Python 3.11 and pip. Exit status 0 while it behaves so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d); pid=''
trap '[ -z "$pid" ] || { kill "$pid"; wait "$pid" || true; }; rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-deps nvidia-pytriton==0.7.0 numpy==1.26.4
site=$work/venv/lib/python3.11/site-packages; triton=$site/pytriton/tritonserver
cp "$triton/python_backend_stubs/3.11/triton_python_backend_stub" "$triton/backends/python/"

for name in cached plain; do
  mkdir -p "$work/models/$name/1"
  cat >"$work/models/$name/config.pbtxt" <<PBTXT
name: "$name"
backend: "python"
max_batch_size: 8
input [ { name: "input_ids", data_type: TYPE_INT64, dims: [ -1 ] } ]
output [ { name: "row_sum", data_type: TYPE_INT64, dims: [ 1 ] } ]
response_cache { enable: $([ $name = cached ] && echo true || echo false) }
PBTXT
  cat >"$work/models/$name/1/model.py" <<'PYTHON'
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        rows = [pb.get_input_tensor_by_name(request, "input_ids").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("row_sum", x.sum(1, keepdims=True))]) for x in rows]
PYTHON
done
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

sums() { # the model, and the shape into which the numbers 1 to 4 are cut
  curl --silent "$url/models/$1/infer" --data \
    '{"inputs":[{"name":"input_ids","datatype":"INT64","shape":'"$2"',"data":[1,2,3,4]}]}' |
    grep -o '"data":[^}]*'
}
curl --silent "$url" | grep -o '"version":"[^"]*"'
seen=''
for model in plain cached; do
  for shape in '[1,4]' '[2,2]' '[4,1]'; do
    told=$(sums $model "$shape")
    echo "$model, shape $shape: $told"
    seen+="$told "
  done
done
right='"data":[10] "data":[3,7] "data":[1,2,3,4] '
first='"data":[10] "data":[10] "data":[10] '
[ "$seen" = "$right$first" ] && echo 'as recorded' || { echo 'CHANGED'; exit 1; }
