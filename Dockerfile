# docker build -t mg2l_kalei . && docker run --rm -v "$PWD/results:/app/results" mg2l_kalei --expt=quick
FROM python:3.12-slim

# Films of robots are drawn without a screen.
RUN apt-get update && apt-get install -y --no-install-recommends libosmesa6 && rm -rf /var/lib/apt/lists/*
ENV MUJOCO_GL=osmesa

WORKDIR /app
COPY . .
RUN pip install --no-cache-dir -c constraints.txt -e '.[mujoco,pettingzoo]'

ENTRYPOINT ["python", "train.py"]
CMD ["--help"]
