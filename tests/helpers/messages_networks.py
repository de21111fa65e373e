"""Error messages of layers, weights, optimizers and SimCLR, in the form of messages.py."""

TABLE = r"""
# ---- layers ----
cossim._core.as_rows("f", ("x",), ()) -> ValueError: f(): 1 names for 0 objects
cossim._core.leave_fp_mode(1) -> TypeError: leave_fp_mode(): mode must be what enter_fp_mode() returned
nn.Linear(1, 1, dtype=int) -> TypeError: dtype must be float32 or float64, not int64
nn.Conv2d(1, 1, 3.0) -> TypeError: Conv2d(): kernel_size must be an integer or a pair of them, not float
nn.Conv2d(1, 1, (3, 3, 3)) -> ValueError: Conv2d(): kernel_size must be an integer or a pair of them, not (3, 3, 3)
nn.conv2d(P, K, padding="full") -> ValueError: conv2d(): padding must be an integer, a pair, 'same' or 'valid', not
    'full'
nn.conv2d(P, K, None, 2, "same") -> ValueError: conv2d(): padding='same' needs stride 1, not (2, 2): pass padding as a
    number
nn.conv2d(P[:, :0], np.empty((1, 0, 1, 2**31), "f4"), None, 1, "same", 2**31 - 1) -> ValueError: conv2d():
    padding='same' would add too many zeros for the kernel (1, 2147483648) with dilation (2147483647, 2147483647): make
    one of them smaller
nn.conv2d(P, K[0]) -> ValueError: conv2d(): weight must have 4 dimensions, (O, C // groups, KH, KW) (x: shape (4, 1, 28,
    28), dtype float32; weight: shape (1, 3, 3), dtype float32)
nn.conv2d(P, K, groups=3) -> ValueError: conv2d(): groups=3 must divide the number of filters, 2, which must not be 0
    (x: shape (4, 1, 28, 28), dtype float32; weight: shape (2, 1, 3, 3), dtype float32)
nn.conv2d(P, K[:, :, :0]) -> ValueError: conv2d(): the kernel of weight has no elements (x: shape (4, 1, 28, 28), dtype
    float32; weight: shape (2, 1, 0, 3), dtype float32)
nn.conv2d(P[..., :2], K) -> ValueError: conv2d(): the padded image (28, 2) is smaller than the kernel (3, 3) with
    dilation (1, 1): pad more, or take larger images (x: shape (4, 1, 28, 2), dtype float32; weight: shape (2, 1, 3, 3),
    dtype float32)
nn.conv2d(P, K, K[0, 0, 0]) -> ValueError: conv2d(): bias must have shape (2,) (x: shape (4, 1, 28, 28), dtype float32;
    weight: shape (2, 1, 3, 3), dtype float32; bias: shape (3,), dtype float32)
nn.max_pool2d(P, 2, padding=2) -> ValueError: max_pool2d(): padding (2, 2) must be at most half of kernel_size (2, 2)
nn.max_pool2d(X, 2) -> ValueError: max_pool2d(): x must be (N, C, H, W), or (C, H, W) for one image, with C, H and W
    above 0 (x: shape (6, 4), dtype float64)
nn.max_pool2d(P[..., :1], 2) -> ValueError: max_pool2d(): the result would have size (14, 0): take a smaller kernel_size
    or larger images (x: shape (4, 1, 28, 1), dtype float32)
nn.avg_pool2d(P, 2, divisor_override=0) -> ValueError: avg_pool2d(): divisor_override must be a 64-bit integer other
    than 0, not 0
nn.batch_norm(P, None, None, training=True, eps=0) -> ValueError: batch_norm(): eps must be finite, at least 0, and
    above 0 in training, not 0.0
nn.batch_norm(X[0], None, None, training=True) -> ValueError: batch_norm(): x must have channels as its dimension 1, (N,
    C, ...): reshape it (x: shape (4,), dtype float64)
nn.batch_norm(X, X[0], X[:, 0]) -> ValueError: batch_norm(): running_var must have shape (4,), one number for each
    channel of x (x: shape (6, 4), dtype float64; running_mean: shape (4,), dtype float64; running_var: shape (6,),
    dtype float64)
nn.batch_norm(X, None, None) -> ValueError: batch_norm(): running_mean and running_var are needed unless training=True:
    pass both
nn.BatchNorm2d(4)(P) -> ValueError: BatchNorm2d(): x must be images (N, 4, H, W), as num_features says (x: shape (4, 1,
    28, 28), dtype float32)
nn.BatchNorm2d(1)(P[:1, :, :1, :1]) -> ValueError: batch_norm(): one value for each channel has no variance: take more
    images, or call eval() (x: shape (1, 1, 1, 1), dtype float32)
nn.gelu(X, "erf") -> ValueError: gelu(): approximate must be 'none' or 'tanh', not 'erf'
nn.Dropout(1.5) -> ValueError: Dropout(): p must be a probability, from 0 to 1, not 1.5
nn.MaxPool2d(2, return_indices=True).vjp(P) -> TypeError: MaxPool2d(return_indices=True) has no vjp, because indices
    have no gradient: leave return_indices out
nn.linear(X, X[:, :3]) -> ValueError: linear(): weight must be (O, D) or (D,), where D is the last size of x (x: shape
    (6, 4), dtype float64; weight: shape (6, 3), dtype float64)
nn.Flatten(1, 0)(X) -> ValueError: Flatten(): end_dim 0 is before start_dim 1 (x: shape (6, 4), dtype float64)
cossim._core.relu_gradient(np.array(1.0), None) -> ValueError: arrays that do not fit together: call a public function,
    not one of cossim._core
nn.Sequential(nn.ReLU(), 3) -> TypeError: Sequential(): layer '1' must be callable, not int
nn.Conv2d(4, 6, 3, groups=3) -> ValueError: Conv2d(): groups=3 must divide in_channels=4 and out_channels=6
nn.Conv2d(0, 6, 3) -> ValueError: Conv2d(): in_channels must be at least 1, not 0
nn.Conv2d(4, 6, 3, padding_mode="mirror") -> ValueError: Conv2d(): padding_mode must be one of zeros, reflect,
    replicate, circular, not 'mirror'
nn.Conv2d(1, 1, 10**5000) -> ValueError: Conv2d(): kernel_size must be below 2**31, not (thousands of digits)
nn.Conv2d(1, 1, 3, padding=4, padding_mode="reflect")(np.zeros((1, 1, 4, 4), "f4")) -> ValueError: Conv2d(): padding (4,
    4) is too large for padding_mode='reflect' and images of size (4, 4): pad less, or with zeros
nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")(np.zeros(3, "f4")) -> ValueError: conv2d(): x must have 4
    dimensions, (N, C, H, W), or 3 for one image (x: shape (3,), dtype float32; weight: shape (1, 1, 3, 3), dtype
    float32; bias: shape (1,), dtype float32)
nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").vjp(np.zeros((2, 2, 3, 3), "f4")) -> ValueError: conv2d(): x has
    2 channels, and weight needs 1 (weight.shape[1] * groups): change one of them (x: shape (2, 2, 3, 3), dtype float32;
    weight: shape (1, 1, 3, 3), dtype float32; bias: shape (1,), dtype float32)
nn.Linear(2**63, 1) -> ValueError: Linear(): in_features must be below 2**63, not 9223372036854775808
nn.Flatten(10**5000)(X) -> AxisError: Flatten(): dim (thousands of digits) is out of range: it must be from -2 to 1 (x:
    shape (6, 4), dtype float64)
nn.Flatten(1.0)(X) -> TypeError: Flatten(): start_dim must be an integer, not float
nn.ReLU().vjp(X)[1](X[0]) -> ValueError: relu_vjp(): dy must have the shape and dtype of y (dy: shape (4,), dtype
    float64; y: shape (6, 4), dtype float64)
nn.Sequential(OrderedDict(c=abs)).vjp(X) -> TypeError: layer 'c': builtin_function_or_method has no vjp: give the class
    a method vjp(x) that returns (y, pullback)
nn.Sequential(OrderedDict(c=nn.Linear(4, 3)))(X) -> TypeError: layer 'c': linear(): x and weight must have the same
    dtype: convert one with astype (x: shape (6, 4), dtype float64; weight: shape (3, 4), dtype float32; bias: shape
    (3,), dtype float32)
setattr(simclr.Encoder(), "fc", None) -> TypeError: fc of Encoder must be callable, not NoneType: assign a layer to it
simclr.Encoder()(np.zeros((2, 3, 28, 28), np.float32)) -> ValueError: Encoder(): images must have shape (N, 1, 28, 28),
    not (2, 3, 28, 28): make an encoder for them, Encoder(in_channels=3, size=(28, 28))
# ---- weights ----
nn.load_weights("text.npz") -> ValueError: text.npz: damaged, or not a .npz file: 'w.npy' in it: not a .npy file,
    because it begins with 31 20 32 20 33: save the array with numpy.save
nn.save_weights("w.npz", X) -> TypeError: save_weights(): state_dict must be a dict of arrays, not ndarray
nn.ReLU().load_state_dict(X) -> TypeError: load_state_dict(): state_dict must be a dict of arrays or a path, not ndarray
nn.save_weights("no/w.npz", W) -> FileNotFoundError: [Errno 2] the folder does not exist: create it first: 'no/w.npz'
(monkeypatch.setattr("os.access", lambda path, mode: False), nn.save_weights("weights.npz", W)) -> PermissionError:
    [Errno 13] the file there is write-protected: change its permissions or choose another path: 'weights.npz'
nn.Linear(4, 2, bias=False).load_state_dict({"weight": np.ones((2, 4)), "bias": [1]}) -> ValueError: load_state_dict():
    the dict does not fit Linear: bias is not expected
nn.Linear(4, 2).load_state_dict({"weight": np.ones((4, 2)), "bias": [1, 2]}) -> ValueError: load_state_dict(): the dict
    does not fit Linear: weight must have shape (2, 4), not (4, 2)
(layer := nn.Linear(4, 2), layer.bias.setflags(write=False), layer.load_state_dict(layer.state_dict())) -> ValueError:
    load_state_dict(): the dict does not fit Linear: bias is read-only: make it writeable with setflags
(layer := nn.Linear(4, 2), setattr(layer, "bias", [1, 2]), layer.load_state_dict({"weight": layer.weight, "bias": [1,
    2]})) -> ValueError: load_state_dict(): the dict does not fit Linear: bias of the layer must be a NumPy array, not
    list: assign one to it
nn.load_weights("array.npz") -> ValueError: array.npz: damaged, or not a .npz file: it holds a single array without a
    name: write it with save_weights
nn.Linear(4, 2).load_state_dict("complex.npz") -> ValueError: complex.npz: load_state_dict(): weight must hold real
    numbers, not complex ones: pass weight.real, or both parts as columns (weight: shape (2, 4), dtype complex128)
nn.load_weights("bfloat16.safetensors") -> ValueError: bfloat16.safetensors: it holds numbers of type BF16, which NumPy
    does not have: save them as F32
nn.save_weights("w.npz", {"a\0b": X}) -> ValueError: save_weights(): a .npz file cannot hold an array by the name
    'a\x00b': rename it
nn.save_weights("w.npz", {"b": np.ones(3, ml_dtypes.bfloat16)}) -> TypeError: save_weights(): NumPy cannot read back b,
    which is bfloat16: float32 has the same values
nn.save_weights("w.txt", {"a": X}) -> ValueError: w.txt: the name of a weights file must end in .npz or .safetensors:
    choose another name, or pass the dict that torch.load returns
nn.save_weights("folder.npz", {"a": X}) -> OSError: [Errno 22] not a regular file: choose another path: 'folder.npz'
(hide("safetensors", "safetensors.numpy"), nn.save_weights("w.safetensors", {"a": X})) -> ModuleNotFoundError: reading
    and writing .safetensors needs safetensors: pip install 'cossim-c[weights]'
# ---- optimizers ----
nn.SGD(W, -0.1) -> ValueError: SGD(): lr must be a finite number from 0, not -0.1
nn.SGD(W, 10**400) -> ValueError: SGD(): lr must be a number that fits a float64
nn.SGD(W, "0.1") -> TypeError: SGD(): lr must be a number, not str
nn.SGD(W, 0.1, dampening=np.inf) -> ValueError: SGD(): dampening must be a finite number, not inf
nn.SGD(W, 1, nesterov=1) -> ValueError: SGD(): nesterov needs a momentum above 0 and a dampening of 0, not 0.0 and 0.0
nn.Adam(W, betas=(1.0, 0.9)) -> ValueError: Adam(): betas[0] must be a finite number from 0 to below 1, not 1.0
nn.Adam(W, betas=0.9) -> TypeError: Adam(): betas must be a pair of numbers, not 0.9
nn.Adam([np.ones(3)]) -> TypeError: Adam(): parameters must be a Module or a dict of arrays, not list
nn.Adam({}) -> ValueError: Adam(): there are no parameters: pass at least one array
nn.Adam({3: np.ones(3)}) -> TypeError: Adam(): names of arrays must be str, not 3
nn.Adam({"w": [1.0]}) -> TypeError: Adam(): w must be a NumPy array, not list: pass or assign one
nn.Adam({"w": np.ones(3, "i8")}) -> TypeError: Adam(): w must be float32 or float64, not int64: convert it with astype
nn.Adam({"w": np.broadcast_to(1.0, 3)}) -> ValueError: Adam(): w is read-only: make it writeable with setflags
nn.Adam({"w": X, "b": X}) -> ValueError: Adam(): w and b are the same array: pass it once
nn.SGD(W, 0.1).step({}) -> ValueError: SGD.step(): w is missing
nn.SGD(W, 0.1).step({"w": np.ones(2)}) -> ValueError: SGD.step(): w must have shape (3,), not (2,)
nn.SGD(W, 0.1).step({"w": np.ones(3, "f4")}) -> TypeError: SGD.step(): w must have dtype float64, not float32: convert
    it with astype
nn.SGD(W, 0.1).step([1]) -> TypeError: SGD.step(): gradients must be a dict with the keys of the parameters, not list
nn.Adam(W).load_state_dict({}) -> ValueError: load_state_dict(): the dict does not fit Adam: step is missing; exp_avg.w
    is missing; exp_avg_sq.w is missing
nn.Adam(W).load_state_dict(nn.Adam(W).state_dict() | {"step": -1}) -> ValueError: load_state_dict(): the dict does not
    fit Adam: step must be a whole number of at least 0, not -1
(w := np.ones(3), adam := nn.Adam({"w": w}), w.setflags(write=False), adam.step(W)) -> ValueError: Adam.step(): w is
    read-only: make it writeable with setflags
nn.LinearLR(5) -> TypeError: LinearLR(): optimizer must have a learning rate as its attribute lr, as SGD and Adam have,
    not int
nn.LinearLR(nn.SGD(W, 0.1), 0) -> ValueError: LinearLR(): start_factor must be from above 0 to 1, not 0
nn.SequentialLR(nn.SGD(W, 0.1), [], []) -> ValueError: SequentialLR(): schedulers must be a list of at least one
    schedule of this optimizer, not []
nn.SequentialLR(s := nn.SGD(W, 0.1), [nn.LinearLR(s), nn.LinearLR(s)], []) -> ValueError: SequentialLR(): milestones
    must be 1 rising numbers of steps, one less than schedules, not []
# ---- simclr ----
simclr.nt_xent(X[0]) -> ValueError: nt_xent(): z0 must have shape (2 N, D) (z0: shape (4,), dtype float64)
simclr.augment(P, -1) -> ValueError: augment(): rng must be a seed or a numpy.random.Generator, not -1: expected
    non-negative integer
simclr.train(P, 2, 2, checkpoint="changed.npz") -> ValueError: changed.npz: damaged, the arrays do not match their
    checksum: restore or remove the file
simclr.nt_xent(X, Y) -> ValueError: nt_xent(): z0 and z1 must have the same shape (N, D) (z0: shape (6, 4), dtype
    float64; z1: shape (5, 4), dtype float64)
simclr.nt_xent(Y) -> ValueError: nt_xent(): z0 holds both views, so its number of rows must be even (z0: shape (5, 4),
    dtype float64)
simclr.nt_xent(X[:0]) -> ValueError: nt_xent(): the views have no rows: pass at least one pair of rows (z0: shape (0,
    4), dtype float64)
simclr.nt_xent(X, X, pairs="interleaved") -> ValueError: nt_xent(): pairs='interleaved' takes one array with both views:
    leave z1 out (z0: shape (6, 4), dtype float64; z1: shape (6, 4), dtype float64)
simclr.nt_xent(X, pairs="diagonal") -> ValueError: nt_xent(): pairs must be 'halves' or 'interleaved', not 'diagonal'
simclr.nt_xent(X, X, 0) -> ValueError: nt_xent(): temperature must be above 0 and finite, not 0.0
simclr.nt_xent(X, X, 1e-310) -> ValueError: nt_xent(): temperature 1e-310 is too small for float64, because 1 /
    temperature overflows: take a larger one
simclr.nt_xent(X, X, "0.5") -> TypeError: nt_xent(): temperature must be a number, not str
simclr.nt_xent(X.astype(np.float16), X) -> TypeError: nt_xent(): z0 must be float32, float64 or integers, not float16:
    convert it with astype
simclr.augment(np.zeros((2, 4, 4), np.int8)) -> TypeError: augment(): images must be float32, float64, or uint8 from 0
    to 255, not int8: convert them with astype
simclr.augment(X) -> ValueError: augment(): images must have shape (N, C, H, W) or (N, H, W), not (6, 4): reshape them
simclr.augment(P, shift=-1) -> ValueError: augment(): shift must be at least 0 and finite, not -1
simclr.augment(P, rotate=361) -> ValueError: augment(): rotate must be between -360 and 360 degrees, not 361
simclr.augment(P, rotate=(10, -10)) -> ValueError: augment(): rotate must be (low, high) with low <= high, not (10, -10)
simclr.augment(P, scale=(0, 1)) -> ValueError: augment(): scale must be (low, high) with 0 < low <= high, both finite,
    not (0, 1)
simclr.augment(P, scale=1) -> TypeError: augment(): scale must be a pair of numbers, (low, high), not 1
simclr.train(P[0, 0]) -> ValueError: train(): images must have shape (N, C, H, W) or (N, H, W), not (28, 28): reshape
    them
simclr.train(P[:1]) -> ValueError: train(): at least two images are required, got 1
simclr.train(np.ones((4, 1, 28, 28), np.int8)) -> TypeError: train(): images must be float32, float64, or uint8 from 0
    to 255, not int8: convert them with astype
simclr.train(P * [[[[np.nan] * 2 + [1] * 26]]]) -> ValueError: train(): images of shape (4, 1, 28, 28) have 224 NaN or
    infinite numbers: replace them first
simclr.train(P, epochs=-1) -> ValueError: train(): epochs must be at least 0, not -1
simclr.train(P, epochs=2**70) -> ValueError: train(): epochs must be below 2**31, not 1180591620717411303424
simclr.train(P, seed=None) -> TypeError: train(): seed must be an integer, not NoneType
simclr.train(P.transpose(0, 2, 3, 1)) -> ValueError: train(): images must have shape (N, C, H, W), but those of shape
    (4, 28, 28, 1) seem to have channels last: pass images.transpose(0, 3, 1, 2)
simclr.train(P[..., :12]) -> ValueError: train(): the default encoder takes images from 16 x 16 pixels, not of shape (4,
    1, 28, 12): pass encoder=
simclr.train(P, encoder=nn.ReLU()) -> ValueError: train(): the encoder must return embeddings of shape (N, D), not an
    array of shape (2, 1, 28, 28): end it with nn.Flatten()
simclr.train(P, head="linear") -> ValueError: train(): head must be 'mlp', a Module or None, not 'linear'
simclr.train(P, schedule="step") -> ValueError: train(): schedule must be 'cosine', a callable or None, not 'step'
simclr.train(P, callback=1) -> TypeError: train(): callback must be a callable of (epoch, step, loss), not int
simclr.augment(P, brightness=(-1, 1)) -> ValueError: augment(): brightness must be (low, high) with 0 <= low <= high,
    both finite, not (-1, 1)
simclr.augment(P, hue=1) -> ValueError: augment(): hue must be between -0.5 and 0.5 turns, not 1
simclr.augment(P, blur=30) -> ValueError: augment(): blur must be from 0 to 20 pixels, not 30
simclr.augment(P[:, [0, 0]], hue=0.1) -> ValueError: augment(): colours need images with 1 or 3 channels, not of shape
    (4, 2, 28, 28): leave their options out
simclr.nt_xent(X, labels=[0.5] * 3) -> TypeError: nt_xent(): labels must be integers of at most 64 bits, or bool, not
    float64: pass np.unique(labels, return_inverse=True)[1]
simclr.nt_xent(X, labels=["cat", "dog", "cat"]) -> TypeError: nt_xent(): labels must be integers of at most 64 bits, or
    bool, not text: pass np.unique(labels, return_inverse=True)[1]
simclr.nt_xent(X, labels=[1, 2]) -> ValueError: nt_xent(): labels must have shape (3,), one for each image, not (2,)
simclr.train(P, optimizer="lbfgs") -> ValueError: train(): optimizer must be 'adam', 'sgd' or a callable, not 'lbfgs'
simclr.train(P, encoder=abs) -> TypeError: train(): encoder must be a Module, not builtin_function_or_method
simclr.train(P, augment="x") -> TypeError: train(): augment must be a dict of augment's keywords or a callable, not str
simclr.train("P.npy") -> TypeError: train(): images must be an array, not a path: load it, such as with numpy.load(path)
simclr.train(P, augment={"flips": 1}) -> TypeError: train(): augment has no keyword 'flips': choose from shift, rotate,
    shear, scale, aspect, flip, brightness, contrast, saturation, hue, greyscale, blur, noise, clip
simclr.train(P, augment=lambda x, rng: x[1:]) -> ValueError: train(): augment must return an array of float32 and shape
    (4, 1, 28, 28), not float32 of shape (3, 1, 28, 28)
simclr.train(P, augment=lambda x, rng: None) -> ValueError: train(): augment must return an array of float32 and shape
    (4, 1, 28, 28), not NoneType
simclr.train(P, augment=lambda x, rng: x * np.float32(np.nan)) -> ValueError: train(): the loss of step 1 of 1 in epoch
    1 is nan: try a smaller lr or a larger temperature
simclr.train(P, checkpoint="weights.npz") -> ValueError: weights.npz: not a checkpoint of cossim.simclr.train: choose
    another path
simclr.train(P + 1, 2, 2, checkpoint="trained.npz") -> ValueError: trained.npz: a checkpoint of another training: it was
    made from different images: pass the same arguments, or another path
simclr.train(P, 1, 2, seed=2, checkpoint="trained.npz") -> ValueError: trained.npz: a checkpoint of another training:
    its encoder began with different parameters; its head began with different parameters; seed was 0 and is now 2; it
    has 4 steps, but all epochs together have 2: pass the same arguments, or another path
(monkeypatch.setattr(simclr.training, "VERSION", 3), simclr.train(P, checkpoint="trained.npz")) -> ValueError:
    trained.npz: a checkpoint of version 2, and this cossim reads version 3: choose another path
"""
