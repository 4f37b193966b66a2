"""ONNX Runtime's execution providers: which are asked for, with which options, and which of them did the work.

The option `provider` (an axis: cpu, cuda, tensorrt) comes before the family's setting `providers` (the library's names).
"""

import ctypes
import glob
import os

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

#: Value of the axis `provider` -> the library's names, in the order in which they may take nodes. CUDA stands behind
#: TensorRT, as https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html asks for.
CHOICES = {"cpu": [CPU], "cuda": [CUDA, CPU], "tensorrt": [TENSORRT, CUDA, CPU]}

#: From compute capability 8.0 on, GPUs have TF32: fp32 products with 10 bits of mantissa instead of 23
#: (https://blogs.nvidia.com/blog/tensorfloat-32-precision-format/).
_TF32_SINCE = 8


def asked(job):
    """Names of the providers asked for, the first choice first. Raises ValueError for a `provider` that is none."""
    choice = job.input.get("options", {}).get("provider")
    if choice is not None:
        if choice not in CHOICES:
            raise ValueError("provider is %r; it can be %s" % (choice, ", ".join(sorted(CHOICES))))
        return list(CHOICES[choice])
    wanted = job.input.get("settings", {}).get("providers") or [CPU]
    return [wanted] if isinstance(wanted, str) else list(wanted)


def tf32(job):
    """Whether TF32 may stand in for fp32: only where the option `tf32` says `allowed`. Raises ValueError."""
    value = job.input.get("options", {}).get("tf32") or job.input.get("settings", {}).get("tf32") or "off"
    if value not in ("off", "allowed"):
        raise ValueError("tf32 is %r; it can be off or allowed" % value)
    return value == "allowed"


def options(job, names, version):
    """[options of each provider], text to text; sets what only an environment variable can.

    CUDA answers fp32 in TF32 unless told (relative error 5e-4): its option `use_tf32` is there from 1.18 on
    (https://github.com/microsoft/onnxruntime/pull/19357 and 19426). TensorRT's provider, and CUDA's before, know
    NVIDIA_TF32_OVERRIDE=0 alone (https://github.com/microsoft/onnxruntime/issues/26029), which NVIDIA's libraries read
    when they are loaded: this process has loaded none yet.
    """
    out = []
    allowed = tf32(job)
    if not allowed and any(name in (CUDA, TENSORRT) for name in names):
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    for name in names:
        given = {}
        if name == CUDA and number(version) >= (1, 18):
            given["use_tf32"] = "1" if allowed else "0"
        if name == TENSORRT and job.input.get("precision") in ("fp16", "int8"):
            # Networks are weakly typed there: TensorRT uses a precision only when it is allowed to.
            given["trt_%s_enable" % job.input["precision"]] = "True"
        out.append(given)
    return out


def number(version):
    """(1, 18) of "1.18.1"."""
    return tuple(int(part) for part in version.split(".")[:2])


#: Folders of the packages that pip installs CUDA and cuDNN from, and what of each to load, in an order in which each finds
#: those before it.
_PIP = (
    ("nvjitlink", "libnvJitLink.so*"), ("cuda_nvrtc", "libnvrtc.so*"), ("cuda_runtime", "libcudart.so*"),
    ("cublas", "libcublasLt.so*"), ("cublas", "libcublas.so*"), ("cufft", "libcufft.so*"), ("curand", "libcurand.so*"),
    ("cudnn", "libcudnn.so*"),
)  # fmt: skip


def preload(module):
    """Let the library find the CUDA and cuDNN that pip installed beside it: by its own function, there from 1.21 on
    (https://onnxruntime.ai/docs/install/#preload-dlls), or by loading them first, where its names for them are then
    found. What is not there is left to the provider, which names it."""
    if CUDA not in module.get_available_providers():
        return
    if hasattr(module, "preload_dlls"):
        module.preload_dlls()
        return
    site = os.path.dirname(os.path.dirname(os.path.abspath(module.__file__)))
    for folder, pattern in _PIP:
        for path in sorted(glob.glob(os.path.join(site, "nvidia", folder, "lib", pattern))):
            try:
                ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                print("could not load %s: %s" % (os.path.basename(path), error))


def absent(names, got):
    """The degradations of providers that were asked for and are not in the session. The CPU's is always there."""
    how = "the session does not have the execution provider"
    return [{"asked": name, "got": ", ".join(got), "how": how} for name in names if name not in got]


def fallen(names, got, nodes):
    """The degradation, as a list of none or one, of computing nodes that another provider than the first asked for took.

    `nodes` is [{"name", "operator", "provider"}] of nodes that compute with numbers: shapes and indices are worked out
    on the CPU on purpose (https://github.com/microsoft/onnxruntime/pull/10831).
    """
    first = names[0]
    elsewhere = [node for node in nodes if node["provider"] != first]
    if first == CPU or first not in got or not elsewhere:
        return []
    counts = {}
    for node in elsewhere:
        counts[node["provider"]] = counts.get(node["provider"], 0) + 1
    took = ", ".join("%s %d" % (name, counts[name]) for name in sorted(counts))
    some = ", ".join("%s %s" % (node["operator"], node["name"]) for node in elsewhere[:5])
    how = "%d of %d compute nodes ran on %s (%s), the others on %s: %s%s, by the session's profile" % (
        len(nodes) - len(elsewhere), len(nodes), first, share(len(nodes) - len(elsewhere), len(nodes)), took, some,
        "..." if len(elsewhere) > 5 else "",
    )  # fmt: skip
    return [{"asked": first, "got": max(sorted(counts), key=counts.get), "how": how}]


def share(part, whole):
    """ "75 %"."""
    return "%d %%" % (100 * part // whole)


def rounded(job, session):
    """(state, degradations) of TF32: what the session's own options say is in force, for a cell that asked for fp32."""
    if CUDA not in session.get_providers():
        return None, []
    said = session.get_provider_options().get(CUDA, {}).get("use_tf32")
    overridden = os.environ.get("NVIDIA_TF32_OVERRIDE") == "0"
    on = said == "1" and not overridden if said is not None else not overridden
    state = "use_tf32=%s, NVIDIA_TF32_OVERRIDE=%s" % (said, os.environ.get("NVIDIA_TF32_OVERRIDE"))
    capability = _capability()
    if not on or job.input.get("precision", "fp32") != "fp32" or (capability is not None and capability < _TF32_SINCE):
        return state, []
    how = "the CUDA provider may compute fp32 products in TF32, with 10 bits of mantissa (%s)" % state
    return state, [{"asked": "fp32", "got": "tf32", "how": how}]


def _capability():
    """Major compute capability of the first GPU, from the driver (CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR is 75 in
    cuda.h); None where it cannot be asked."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    return None if driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device) else major.value
