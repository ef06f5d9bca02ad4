"""The built-in names: kind -> name -> "module:Class", read like a plug-in's entry point.

A table replaces imports so that listing names loads no layer. A test compares it with the files.
"""


def _table(module: str, classes: str) -> dict[str, str]:
    """Map names to targets, from ``"relu=ReLU elu=ELU"`` of one module."""
    pairs = (pair.split("=") for pair in classes.split())
    return {name: f"{module}:{attribute}" for name, attribute in pairs}


LAYERS = {
    **_table("nnjit.layers.dense", "dense=Dense"),
    **_table("nnjit.layers.conv", "conv=Conv conv1d=Conv1d conv2d=Conv2d conv3d=Conv3d"),
    **_table(
        "nnjit.layers.conv_transpose",
        "conv_transpose=ConvTranspose conv_transpose1d=ConvTranspose1d conv_transpose2d=ConvTranspose2d"
        " conv_transpose3d=ConvTranspose3d",
    ),
    **_table(
        "nnjit.layers.pooling",
        "maxpool=MaxPool avgpool=AvgPool lppool=LpPool global_avgpool=GlobalAvgPool global_maxpool=GlobalMaxPool",
    ),
    **_table(
        "nnjit.layers.activations",
        "relu=ReLU leaky_relu=LeakyReLU elu=ELU selu=SELU gelu=GELU silu=SiLU softplus=Softplus sigmoid=Sigmoid"
        " tanh=Tanh identity=Identity",
    ),
    **_table("nnjit.layers.softmax", "softmax=Softmax"),
    **_table("nnjit.layers.reshape", "flatten=Flatten reshape=Reshape"),
    **_table("nnjit.layers.dropout", "dropout=Dropout"),
    **_table(
        "nnjit.layers.augment",
        "random_flip=RandomFlip random_crop=RandomCrop random_rotation=RandomRotation noise=Noise",
    ),
    **_table("nnjit.layers.normalization", "batchnorm=BatchNorm layernorm=LayerNorm"),
    **_table("nnjit.layers.residual", "residual=Residual"),
    **_table("nnjit.layers.embedding", "embedding=Embedding"),
    **_table("nnjit.layers.scale", "standardize=Standardize minmax=MinMax unstandardize=Unstandardize"),
}

LOSSES = _table(
    "nnjit.training.losses",
    "quadratic=Quadratic cross_entropy=CrossEntropy binary_cross_entropy=BinaryCrossEntropy mse=MSE mae=MAE"
    " huber=Huber lp=Lp",
)

OPTIMIZERS = _table("nnjit.training.optimizers", "sgd=SGD rmsprop=RMSProp adam=Adam adamw=AdamW")

SCHEDULES = _table(
    "nnjit.training.schedules", "constant=Constant step=Step exponential=Exponential cosine=Cosine warmup=WarmUp"
)

INITIALIZERS = _table(
    "nnjit.layers.initializers",
    "he=He glorot=Glorot lecun=LeCun normal=Normal zeros=Zeros constant=Constant",
)

DATASETS = {
    "digits": "nnjit.data.digits:Digits",
    "ten_points": "nnjit.data.ten_points:TenPoints",
    "idx": "nnjit.data.idx:IDX",
    "npz": "nnjit.data.npz:NPZ",
    "csv": "nnjit.data.csv_file:CSV",
    "arrow": "nnjit.data.arrow_file:Arrow",
    "images": "nnjit.data.image_folder:Images",
}

METRICS = {
    **_table(
        "nnjit.training.metrics.of_classes",
        "accuracy=Accuracy subset_accuracy=SubsetAccuracy top_k=TopK balanced_accuracy=BalancedAccuracy"
        " precision=Precision recall=Recall f1=F1 auc=AUC log_loss=LogLoss",
    ),
    **_table(
        "nnjit.training.metrics.of_values",
        "mae=MeanAbsoluteError rmse=RootMeanSquaredError r2=R2 max_error=MaxError l1=L1 l2=L2 linf=LInf",
    ),
}

COMPOSE = "nnjit.network.compose:compose"
