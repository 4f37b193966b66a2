"""A convolutional network in Keras with depthwise separable and residual blocks (MobileNet, https://arxiv.org/abs/1704.04861)."""


def model(recipe, source):
    from tensorflow import keras

    from worker.exporters import weights

    layers = keras.layers

    def conv(x, filters, name, stride=1):
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=name + "_conv")(x)
        x = layers.BatchNormalization(name=name + "_bn")(x)
        return layers.ReLU(name=name + "_relu")(x)

    def separable(x, filters, name, stride=1):
        out = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=name + "_depthwise")(x)
        out = layers.BatchNormalization(name=name + "_bn1")(out)
        out = layers.ReLU(max_value=6.0, name=name + "_relu1")(out)
        out = layers.Conv2D(filters, 1, use_bias=False, name=name + "_point")(out)
        out = layers.BatchNormalization(name=name + "_bn2")(out)
        if stride == 1 and x.shape[-1] == filters:
            out = layers.Add(name=name + "_add")([out, x])
        return layers.ReLU(name=name + "_relu2")(out)

    image = keras.Input(shape=recipe["inputs"][0]["shape"][1:], name="image")
    x = conv(image, 16, "stem", 2)
    for index, (filters, stride) in enumerate([(16, 1), (32, 2), (32, 1), (64, 2), (64, 1)]):
        x = separable(x, filters, "block%d" % index, stride)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(64, activation="relu", name="hidden")(x)
    out = layers.Dense(10, name="logits")(x)
    return weights.fill_keras(keras.Model(image, out, name="keras_cnn"), "keras_cnn")


def inputs(recipe, source, shapes, seed):
    from worker.exporters import weights

    batch, height, width, channels = shapes["image"]
    return [weights.smooth_image((batch, channels, height, width), seed).transpose(0, 2, 3, 1)]
