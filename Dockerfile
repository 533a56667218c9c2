# lstmc with real Caffe on the CPU: docker build -t lstmc . && docker run --rm -v "$PWD:/work" lstmc verify model.py -D T=5
FROM debian:trixie-slim
COPY . /src
WORKDIR /src
RUN ./docker/setup.sh && ./docker/smoke.sh && rm -rf /src /var/lib/apt/lists/*
ENV PATH=/opt/lstmc/bin:$PATH
WORKDIR /work
ENTRYPOINT ["lstmc"]
