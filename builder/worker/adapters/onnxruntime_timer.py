"""The time that the GPU itself takes for a run of ONNX Runtime's CUDA provider, by events of the stream that it computes on."""

from worker.adapters import cuda, onnxruntime_providers


def timer(engine, arrays):
    """A function that runs once on what is on the device already, and gives the seconds that the GPU took; None for a session
    without the CUDA provider.

    A session of its own: `user_compute_stream` is said when a session is made
    (https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#user_compute_stream), and what is timed end to
    end is a session as users have it. Inputs and outputs are bound on the device, so no copy of ours lies between the events.
    """
    if onnxruntime_providers.CUDA not in engine.session.get_providers():
        return None
    import onnxruntime

    gpu = cuda.Cuda()
    stream = gpu.stream()
    given = onnxruntime_providers.options(engine.job, engine.asked, onnxruntime.__version__)
    for name, options in zip(engine.asked, given):
        if name in (onnxruntime_providers.CUDA, onnxruntime_providers.TENSORRT):
            options["user_compute_stream"] = str(stream)
    session = onnxruntime.InferenceSession(engine.path, engine.options, providers=engine.asked, provider_options=given)
    binding = session.io_binding()
    held = [onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0) for array in arrays]
    for name, value in zip(engine.inputs, held):
        binding.bind_ortvalue_input(name, value)
    for name in engine.asking:
        binding.bind_output(name, "cuda", 0)
    first, last = gpu.event(), gpu.event()

    def once():
        gpu.record(first, stream)
        session.run_with_iobinding(binding)
        gpu.record(last, stream)
        return gpu.between(first, last)

    once.held = held  # the binding knows addresses alone
    return once
